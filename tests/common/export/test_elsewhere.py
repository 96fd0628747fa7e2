"""Exports in other programs' layouts: Triton's model repository, Hugging Face's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tests.common.export import made
from tests.common.export.made_neural import text_folder
from wardround.common.errors import ModelRefused
from wardround.common.export.exporting import export_model
from wardround.common.export.folder import ExportFolder
from wardround.common.export.hf import hf_files
from wardround.common.export.layouts import triton_files, write_triton
from wardround.common.export.source import Source
from wardround.common.export.tabular import tabular_graph
from wardround.common.model_folder.folder import ModelFolder


def triton_config() -> Any:
    """Triton's ``ModelConfig``: of its model_config.proto what is written here."""
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="inference")
    kinds = file.enum_type.add(name="DataType")
    for number, name in enumerate(["INVALID", "FP64", "FP32", "INT64", "STRING"]):
        kinds.value.add(name=f"TYPE_{name}", number=number)
    text, whole, one, many = 9, 5, 1, 3

    def message(name: str, *fields: tuple[str, int, int, str]) -> None:
        made = file.message_type.add(name=name)
        for number, (field, kind, label, of) in enumerate(fields, 1):
            made.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)

    tensor = ("name", text, one, ""), ("data_type", 14, one, ".inference.DataType")
    message("Tensor", *tensor, ("dims", 3, many, ""))
    message("Batching")
    message("Value", ("string_value", text, one, ""))
    message("Parameter", ("key", text, one, ""), ("value", 11, one, ".inference.Value"))
    message(
        "ModelConfig",
        ("name", text, one, ""),
        ("backend", text, one, ""),
        ("max_batch_size", whole, one, ""),
        ("input", 11, many, ".inference.Tensor"),
        ("output", 11, many, ".inference.Tensor"),
        ("dynamic_batching", 11, one, ".inference.Batching"),
        ("parameters", 11, many, ".inference.Parameter"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("inference.ModelConfig")
    return message_factory.GetMessageClass(found)


def described(tensors: Any) -> list[tuple[str, str, list[int]]]:
    kinds = {1: "FP64", 2: "FP32", 3: "INT64", 4: "STRING"}
    return [(one.name, kinds[one.data_type], list(one.dims)) for one in tensors]


def test_a_model_repository_says_what_goes_in_and_comes_out(
    volumes_graph: ExportFolder, tagger_graph: ExportFolder, tmp_path: Path
) -> None:
    table = Source.of(made.model_folder(tmp_path / "model", made.settings("binary", {})))
    graphs = [(one.path / "model.onnx").read_bytes() for one in (volumes_graph, tagger_graph)]
    read = []
    for graph in (*graphs, tabular_graph(table)):
        files = triton_files(graph, "run of 2026-01")
        config, model = files
        assert model == "run_of_2026-01/1/model.onnx" and files[model] == graph
        assert config == "run_of_2026-01/config.pbtxt"
        found = text_format.Parse(files[config].decode(), triton_config()())
        assert (found.name, found.backend) == ("run_of_2026-01", "onnxruntime")
        assert found.max_batch_size == 256
        read.append((described(found.input), described(found.output)))
    assert read[0] == (
        [("pixels", "FP32", [1, 8, 9, 10])],
        [(f"probability_{name}", "FP64", [1]) for name in "abc"],
    )
    assert read[1] == (
        [("input_ids", "INT64", [-1]), ("attention_mask", "INT64", [-1])],
        [("tag_probabilities", "FP32", [-1, 5])],
    )
    assert ("ward", "STRING", [1]) in read[2][0] and ("age", "FP64", [1]) in read[2][0]


def test_a_repository_keeps_what_it_has(volumes_graph: ExportFolder, tmp_path: Path) -> None:
    folder = write_triton(volumes_graph, tmp_path / "models")
    found = sorted(x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file())
    assert found == ["1/model.onnx", "config.pbtxt"] and folder.name == "made-1"
    with pytest.raises(ModelRefused, match="is there already"):
        write_triton(volumes_graph, tmp_path / "models")


def test_a_tagger_loads_in_hugging_faces_own_classes(tagger: ModelFolder, tmp_path: Path) -> None:
    """Parity is the export's own; here what tags are called, and that no adapter is left."""
    made = export_model(Source.of(tagger), tmp_path / "hf", "hf")
    assert made.info.parity.largest < 1e-5 and made.info.graph == "model.safetensors"
    config = json.loads((made.path / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert list(config["id2label"].values())[:3] == ["O", "B-Disease", "I-Disease"]
    assert json.loads((made.path / "tokenizer_config.json").read_text())["pad_token"] == "[PAD]"
    assert b"lora" not in (made.path / "model.safetensors").read_bytes()
    with pytest.raises(ModelRefused, match="no ONNX graph"):
        made.session()


def test_a_classifier_has_its_head_beside_the_encoder(tmp_path: Path, encoder: Path) -> None:
    folder = text_folder(tmp_path / "model", encoder, "sequence", 'classes = ["a", "b", "c"]')
    made = export_model(Source.of(folder), tmp_path / "hf", "hf")
    assert made.info.parity.largest < 1e-5
    assert (made.path / "head.safetensors").is_file()


def test_a_tuned_prompt_is_in_a_graph_alone(tmp_path: Path, encoder: Path) -> None:
    more = 'classes = ["a", "b", "c"]\ntuning = "prompt"\nprompt_tokens = 5'
    source = Source.of(text_folder(tmp_path / "model", encoder, "sequence", more))
    with pytest.raises(ModelRefused, match="tuned prompt.*ONNX graph has it"):
        export_model(source, tmp_path / "hf", "hf")
    assert export_model(source, tmp_path / "graph").info.parity.largest < 1e-5


def test_only_texts_have_hugging_faces_layout(volumes: ModelFolder) -> None:
    with pytest.raises(ModelRefused, match="only text models"):
        hf_files(Source.of(volumes))
