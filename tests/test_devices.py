"""A device and a precision are taken as asked for, or refused with what there is instead."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
import torch
from conftest import Run

import descbench as db
from descbench.devices import PRECISIONS, Compute, pick_device
from descbench.errors import InputError, SpecError
from descbench.store import CachedEncoder

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def test_auto_is_what_torch_sees() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else pick_device("auto"))
    assert pick_device("auto") in {"cpu", "cuda", "mps"}
    assert pick_device("auto", float64=True) in {"cpu", "cuda"}


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "", "meta", "cpu cuda"])
def test_what_is_no_device_is_named_with_what_there_is(name: str) -> None:
    with pytest.raises(SpecError, match=rf"no device '{name}'\. There are: auto, cpu, cuda, cuda:0, mps"):
        pick_device(name)


@NO_GPU
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:5", "xpu", "hpu"])
def test_a_device_that_is_not_here_is_an_error_with_a_next_step(name: str) -> None:
    with pytest.raises(InputError, match=rf"device '{name}' cannot be used here; torch sees no GPU. Use auto or cpu"):
        pick_device(name)


def test_an_unknown_precision_is_named_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"no precision 'bfp16'; did you mean 'fp16'\? There are: fp32, bf16"):
        Compute(precision="bfp16")


def test_a_key_names_what_changes_numbers_and_not_the_device() -> None:
    keys = {Compute("cpu", precision, compiled).key for precision in PRECISIONS for compiled in (False, True)}
    assert len(keys) == 8
    assert Compute("cuda", "bf16").key == Compute("cpu", "bf16").key


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16"), ("amp", "float32")]
)
def test_weights_are_of_the_precision_and_amp_multiplies_in_bfloat16(precision: str, dtype: str) -> None:
    compute = Compute("cpu", precision)
    weights = torch.ones(2, 2, dtype=compute.dtype, requires_grad=True)
    assert weights.dtype == getattr(torch, dtype)
    with compute.running():
        product = weights @ weights
    assert product.dtype == (torch.bfloat16 if precision == "amp" else weights.dtype)
    assert not product.requires_grad


def test_a_kernel_that_torch_lacks_is_an_error_with_a_next_step() -> None:
    matrix = torch.eye(2, dtype=torch.float16)
    with pytest.raises(RuntimeError, match="Half") as theirs:
        torch.linalg.cholesky(matrix)  # in half precision only a few things are missing on a CPU by now
    message = r"precision fp16 cannot be computed on cpu: .* Use precision fp32"
    with pytest.raises(InputError, match=message), Compute("cpu", "fp16").running():
        torch.linalg.cholesky(matrix)
    with pytest.raises(RuntimeError, match="Half"), Compute("cpu").running():
        raise theirs.value
    mixed = r"precision bf16 cannot be computed on cpu: .* same dtype.*\. Use precision fp32"
    with pytest.raises(InputError, match=mixed), Compute("cpu", "bf16").running():
        torch.nn.functional.linear(torch.eye(2), torch.eye(2, dtype=torch.bfloat16))


@pytest.mark.slow
def test_what_cannot_be_compiled_is_an_error_with_a_next_step() -> None:
    import torch._inductor.config

    shift = secrets.randbits(50)  # what was compiled before lies in a cache of torch's
    double = Compute("cpu", compile=True).compiled(lambda rows: 2 * rows + shift)
    message = r"cannot be compiled on cpu: .*No working C\+\+ compiler[^\n]*Leave --compile .* out[^\n]*$"
    without = torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/g++")})
    with without, pytest.raises(InputError, match=message):
        double(torch.ones(3, dtype=torch.float64))
    plain = Compute("cpu").compiled(double)
    assert plain is double


def test_what_was_used_is_said_in_words() -> None:
    assert Compute("cpu", "amp", compile=True).used == {"device": "cpu", "precision": "amp", "compile": True}


def test_a_result_says_on_what_and_how_exactly_its_encoder_ran(run: Run, tmp_path: Path) -> None:
    asked = ("--encoder", "demo", "-m", "classname", "--no-baselines", "--device", "cpu")
    done = run("evaluate", "demo:n=10", *asked, "--precision", "bf16", "--json", "-o", tmp_path / "runs")
    assert done.code == 0, done.err
    used = {"device": "cpu", "precision": "bf16", "compile": False}
    assert json.loads(done.out)["runs"][0]["compute"] == used
    (folder,) = (tmp_path / "runs").iterdir()
    assert db.Evaluation.load(folder).compute == used
    plain = run("evaluate", "demo:n=10", *asked, "--json")
    assert json.loads(plain.out)["runs"][0]["compute"]["precision"] == "fp32"
    assert len(list((tmp_path / "kept" / "features").iterdir())) == 2  # one precision is never taken for another


def test_views_and_the_cache_pass_on_what_the_encoder_computes_with(tmp_path: Path) -> None:
    encoder = db.encoder("demo", device="cpu", precision="amp", views="crops(2)")
    assert CachedEncoder(encoder, tmp_path).compute == Compute("cpu", "amp")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "fp8"), "no precision 'fp8'"),
        (("--device", "tpu0"), "no device 'tpu0'. There are: auto, cpu"),
        (("--precision", "bf16", "--encoder", "features:none.npz"), "encoder 'features'"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_exit_code_2(run: Run, options: tuple[str, ...], message: str) -> None:
    done = run("evaluate", "demo:n=10", "-m", "classname", "--no-baselines", *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("error: ")
    assert message in done.err
