"""Upload weights to a repository of the hub, with a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import ModuleType

from fastscnn.base import files
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra
from fastscnn.hub.address import Address, parse
from fastscnn.hub.client import client
from fastscnn.hub.download import FLOAT32
from fastscnn.hub.model_card import README, Weights, texts
from fastscnn.model import onnx_file
from fastscnn.model.card import Card
from fastscnn.version import __version__


def push(
    weights: str | PathLike[str] | Sequence[str | PathLike[str]],
    to: str,
    private: bool = False,
    license_id: str | None = None,
) -> str:
    """Upload weight files and their model card to the Hugging Face Hub. The repository is created if it does not exist.

    Files get the names that `Segmenter.load` looks for: model.onnx, model-int8.onnx, model.safetensors. README.md, the model
    card, states the licence, the training data with its terms, the classes, and the scores with the dataset of each. LICENSE
    has the terms if they are no single licence that the hub knows. Files of these names are replaced; the history of the
    repository keeps the old ones.

    The token is that of `hf auth login` or of the variable HF_TOKEN. It needs write access.

    Args:
        weights: .onnx and .safetensors files of the same weights, such as those of several precisions.
        to: hf://OWNER/NAME, or hf://OWNER/NAME@BRANCH for a branch that exists.
        private: create a private repository.
        license_id: identifier of a licence on the hub, such as "cc-by-4.0". Only for weights whose card states no terms of the
            training data.

    Returns:
        The address of the new commit, which `Segmenter.load` takes: hf://OWNER/NAME@COMMIT.

    Raises:
        ArgumentError: a wrong address or licence.
        FastSCNNError: the extra `hub` is missing, a file that cannot be read or was not made for fastscnn, files of different
            weights, no licence, `private` for a repository that is public, no token, or the hub refuses the upload.
    """
    address, uploads = _address(to), _uploads(weights)
    with client(address) as hub:
        written = texts(hub, address, uploads, license_id)
        if hub.get_token() is None:
            raise FastSCNNError(f"{address}: an upload needs a token with write access; log in with `hf auth login`, or set "
                                "HF_TOKEN.")
        shown = not hub.utils.are_progress_bars_disabled()
        hub.utils.disable_progress_bars()
        try:
            return _upload(hub, address, uploads, written, private)
        finally:
            if shown:
                hub.utils.enable_progress_bars()


def readme(
    weights: str | PathLike[str] | Sequence[str | PathLike[str]], to: str, license_id: str | None = None
) -> str:
    """Return the README.md that `push` would write. The network is not used. Takes and raises what `push` does."""
    address, uploads = _address(to), _uploads(weights)
    with client(address) as hub:
        return texts(hub, address, uploads, license_id)[README]


def _address(to: str) -> Address:
    address = parse(to)
    if address.file:
        raise ArgumentError(f"{address}: names a file, but files are named by their content; give hf://{address.repository}.")
    return address


def _uploads(weights: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Weights]:
    """Return the files, float32 ONNX first. Raise FastSCNNError if one cannot be used, or they are not of the same weights."""
    given = [weights] if isinstance(weights, str | PathLike) else weights
    found = [_read(files.expand(path)) for path in given]
    if not found:
        raise ArgumentError("push: give at least one weight file.")
    first = found[0]
    names: dict[str, Weights] = {}
    for each in found:
        if each.card.parameters_sha256 != first.card.parameters_sha256:
            raise FastSCNNError(f"{each.path}: holds other weights than {first.path}; push them to another repository.")
        if (other := names.setdefault(each.name, each)) is not each:
            raise FastSCNNError(f"{each.path}: would be {each.name} on the hub, as {other.path}; push one of them.")
    return sorted(found, key=lambda each: (each.name != FLOAT32, each.name))


def _read(path: Path) -> Weights:
    """Read a weight file with all its checks, and name it."""
    card = _card(path)
    if card.output != "logits":
        raise FastSCNNError(f"{path}: returns {card.output}, and fastscnn needs logits; export it with --output logits.")
    precision = "" if card.precision == "float32" else f"-{card.precision}"
    size = f"-{hxw(card.fixed_size)}" if card.fixed_size else ""
    return Weights(path, f"model{precision}{size}{path.suffix.lower()}", card)


def _card(path: Path) -> Card:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return onnx_file.load(path)[1]
    if suffix != ".safetensors":
        raise FastSCNNError(f"{path}: weights are .onnx or .safetensors files; others, such as pickles, are not read.")
    try:
        from fastscnn.network import checkpoint
    except ModuleNotFoundError as error:
        raise missing_extra(f"{path}: {error.name} is missing. Reading a .safetensors file", "train") from error
    return checkpoint.load(path)[1]


def _upload(hub: ModuleType, address: Address, uploads: Sequence[Weights], written: Mapping[str, str], private: bool) -> str:
    """Create the repository if it is missing, and commit all files at once."""
    repository = address.repository
    hub.create_repo(repository, private=private or None, exist_ok=True)
    if private and not hub.model_info(repository).private:
        raise FastSCNNError(f"{address}: exists and is public; make it private in its settings, or omit --private.")
    content: dict[str, str | bytes] = {name: text.encode() for name, text in written.items()}
    content |= {each.name: str(each.path) for each in uploads}
    done = hub.HfApi(library_name="fastscnn", library_version=__version__).create_commit(
        repository,
        [hub.CommitOperationAdd(name, data) for name, data in content.items()],
        commit_message=f"Upload {', '.join(each.name for each in uploads)} by fastscnn {__version__}",
        revision=address.revision,
    )
    return f"hf://{repository}@{done.oid}"
