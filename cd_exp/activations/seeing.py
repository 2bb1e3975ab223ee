"""What the wanted modules give in a forward pass, and which of it was meant: one call, one tensor, a row an image."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from cd_exp.activations.axes import AxisFacts
from cd_exp.activations.running import hooked, tensors_in
from cd_exp.activations.selection import Wanted
from cd_exp.errors import InputError, fault
from cd_exp.io.text import shortened


@dataclass(eq=False)
class Seen:
    """The shapes of all tensors that modules gave in one forward pass: {module: [{element: shape} for each call]}."""

    shapes: dict[str, list[dict[str, tuple[int, ...]]]] = field(default_factory=dict)
    real: dict[str, bool] = field(default_factory=dict)

    def of(self, wanted: Wanted) -> tuple[int, ...]:
        """The shape of a layer whose call and element are settled."""
        calls = self.shapes.get(wanted.module, [])
        call = calls[wanted.call - 1] if wanted.call and len(calls) >= wanted.call else {}
        return call.get(wanted.element or "", ())


def shown(
    network: nn.Module, wanted: Sequence[Wanted], pictures: Tensor, facts: AxisFacts | None, *, name: str
) -> Seen:
    """One forward pass; `facts` is asked for the axes of everything the wanted modules give."""
    seen = Seen()

    def keep(path: str, call: int, output: object) -> None:
        tensors = tensors_in(output)
        seen.shapes.setdefault(path, []).append({place: tuple(tensor.shape) for place, tensor in tensors.items()})
        for place, tensor in tensors.items():
            seen.real[key_of(path, call, place)] = tensor.is_floating_point() or tensor.is_quantized
            if facts and tensor.ndim >= 3:
                facts.ask(key_of(path, call, place), tensor)

    with hooked(network, [one.module for one in wanted], keep, name=name) as forward:
        try:
            forward(pictures)
        except InputError:
            raise
        except Exception as error:  # the network is the user's: whatever it raises says what does not fit
            raise InputError(
                f"{name} cannot process {len(pictures)} pictures as an input of {written(pictures.shape)}: "
                f"{fault(error)}"
            ) from error
    return seen


def settled(wanted: Wanted, seen: Seen, *, name: str) -> Wanted:
    """The layer with its call and element chosen; more than one without a choice is refused."""
    calls = seen.shapes[wanted.module]
    if wanted.call is None and len(calls) > 1:
        numbered = shortened([f"{wanted.module}@{number}" for number in range(1, len(calls) + 1)])
        raise InputError(
            f"layer {wanted.module!r} of {name} is called {len(calls)} times in one forward pass; "
            f"choose a call: {numbered}"
        )
    call = wanted.call or 1
    if call > len(calls):
        raise InputError(f"layer {wanted.name!r}: {name} calls {wanted.module!r} {len(calls)} times, not {call}")
    tensors = calls[call - 1]
    if not tensors:
        raise InputError(f"layer {wanted.name!r} of {name} gives no dense tensor; choose the module around it")
    path = wanted.module + (f"@{wanted.call}" if wanted.call else "")
    choices = shortened([f"{path}/{place} ({written(shape)})" for place, shape in tensors.items() if place])
    if wanted.element is not None and wanted.element not in tensors:
        given = f"its elements are {choices}" if choices else f"it gives one tensor, {path}"
        raise InputError(f"layer {wanted.name!r} of {name}: there is no element {wanted.element!r}; {given}")
    if wanted.element is None and len(tensors) > 1:
        raise InputError(f"layer {path!r} of {name} gives {len(tensors)} tensors; choose one: {choices}")
    element = next(iter(tensors)) if wanted.element is None else wanted.element
    return Wanted(wanted.name, wanted.module, wanted.pool, call, element)


def refuse_other_axes(wanted: Wanted, seen: Seen, fewer: Seen, images: int, *, name: str) -> None:
    """Refuse what has no row for each image, or no numbers that can be compared.

    Args:
        wanted: a layer whose call and element are settled.
        seen: for so many images.
        fewer: for one image less.
        images: how many.
        name: of the network, for the error.
    """
    shape, less = seen.of(wanted), fewer.of(wanted)
    says = f"layer {wanted.name!r} of {name} gives {written(shape)} for {images} pictures"
    if not shape or not less or shape[0] != images or less[0] != images - 1 or len(shape) != len(less):
        moved = [axis for axis, (a, b) in enumerate(zip(shape, less, strict=False)) if (a, b) == (images, images - 1)]
        where = f"they are on axis {moved[0]}" if moved else "windows, boxes or tokens of several pictures"
        raise InputError(f"{says}: its first axis is not the pictures ({where}); choose the module around it")
    if not seen.real[key_of(wanted.module, wanted.call, wanted.element)]:
        raise InputError(f"{says} which are no real numbers; choose a layer that gives floating-point numbers")
    if len(shape) not in (2, 3, 4):
        raise InputError(f"{says}; expected a vector, tokens or maps for each picture")


def key_of(module: str, call: int | None, element: str | None) -> str:
    """What a tensor is called while a network is looked at."""
    return f"{module}@{call}/{element}"


def written(shape: Sequence[int]) -> str:
    """A shape in words: `3 x 224 x 224`."""
    return " x ".join(map(str, shape))
