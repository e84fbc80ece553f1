"""The organisers' layout: predictions.json lists the jobs and their outputs, ground_truth.json the truth."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pandas import DataFrame, concat
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from amf.data.loading import read_json
from amf.data.schema import first_fault
from amf.errors import DataError
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_SOCKET, socket_of

JOBS, TRUTH = "predictions.json", "ground_truth.json"
CLASS = {"normal": 0, "atypical": 1}

Word = Literal["normal", "atypical"]
"""The two words that the organisers take, and no other."""

T = TypeVar("T")


def _real(confidence: Any) -> Any:
    if not isinstance(confidence, float):
        raise ValueError(f"{confidence!r} is no real number: a whole one needs a fraction too, as in 1.0")
    return confidence


class Output(BaseModel):
    """One prediction; the organisers' own check lets a confidence beyond 1 through, but no probability is."""

    word: Word = Field(alias="class")
    confidence: Annotated[float, Field(ge=0, le=1), BeforeValidator(_real)]


class Truth(BaseModel):
    """The labels of one image and their tumour domains."""

    image: str
    labels: list[Word]
    tumordomains: list[int | str]


JOB_LIST, OUTPUTS, TRUTHS = TypeAdapter(list[Any]), TypeAdapter(list[Output]), TypeAdapter(list[Truth])


def read_jobs(folder: Path, truth_path: Path) -> tuple[DataFrame, list[str], list[str]]:
    """Read the outputs of all jobs whose truth is known.

    Returns
    -------
    image (str), page (Int64), label and predicted (int64, 1 = AMF), confidence (float64) and domain of each
    figure; the images of jobs without truth; the images of the truth without a job.

    Raises
    ------
    DataError : a file is missing or malformed, or the organisers would refuse an output.
    """
    truth = truth_table(truth_path)
    truths = {str(image): own for image, own in truth.groupby("image", sort=False)}
    parts = [truth[:0].assign(predicted=0, confidence=0.0)]
    seen: dict[str, str] = {}  # job -> its image
    for number, job in enumerate(_read_list(folder / JOBS, JOB_LIST)):
        pk, image, output_path = _job_sockets(job, f"{folder / JOBS}, job {number}")
        if pk in seen or image in seen.values():
            raise DataError(f"job {pk} ({image}) is a second one of that name or image, expected one each")
        seen[pk] = image
        if image not in truths:
            continue
        path, own = folder / pk / "output" / output_path, truths[image]
        outputs = _read_list(path, OUTPUTS)
        if len(outputs) != len(own):
            raise DataError(f"{path} ({image}) holds {len(outputs)} predictions, the truth {len(own)}")
        predicted = [CLASS[output.word] for output in outputs]
        parts.append(own.assign(predicted=predicted, confidence=[output.confidence for output in outputs]))
    without_truth = [image for image in seen.values() if image not in truths]
    without_job = [image for image in truths if image not in seen.values()]
    columns = ["image", "page", "label", "predicted", "confidence", "domain"]
    return concat(parts, ignore_index=True)[columns], without_truth, without_job


def lists(content: Any, key: str) -> bool:
    """Whether JSON lists objects with a key: `inputs` of the platform's jobs, `labels` of the truth."""
    return isinstance(content, list) and any(isinstance(entry, dict) and key in entry for entry in content)


def truth_table(path: Path) -> DataFrame:
    """The organisers' ground truth as a table, one row a figure: image, page, label (1 = AMF), domain.

    Raises DataError for a file that is none, an image listed twice, and labels without their domains.
    """
    rows: list[tuple[str, int, int, int | str]] = []
    seen: set[str] = set()
    for entry in _read_list(path, TRUTHS):
        labels, domains = entry.labels, entry.tumordomains
        if entry.image in seen:
            raise DataError(f"{path} lists {entry.image} twice, expected one entry an image")
        if len(labels) != len(domains):
            raise DataError(f"{path}: {entry.image} has {len(labels)} labels, {len(domains)} tumordomains")
        seen.add(entry.image)
        pairs = enumerate(zip(labels, domains, strict=True))
        rows += [(entry.image, page, CLASS[word], domain) for page, (word, domain) in pairs]
    return DataFrame(rows, columns=["image", "page", "label", "domain"]).astype({"page": "Int64"})


def _job_sockets(job: Any, where: str) -> tuple[str, str, str]:
    """The job's key, the name of its input image and the relative path of its output."""
    try:
        inputs = {socket_of(value)["slug"]: value for value in job["inputs"]}
        outputs = {socket_of(value)["slug"]: socket_of(value) for value in job["outputs"]}
        image, path = inputs[INPUT_SOCKET]["image"]["name"], outputs[OUTPUT_SOCKET]["relative_path"]
        return str(job["pk"]), str(image), str(path)
    except (KeyError, TypeError) as error:
        raise DataError(f"{where} is no job of Track 2 as the platform writes it: {error!r}") from error
    except ValueError as error:
        raise DataError(f"{where}: one of its sockets {error}") from error


def _read_list(path: Path, kind: TypeAdapter[list[T]]) -> list[T]:
    try:
        return kind.validate_python(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}") from None
