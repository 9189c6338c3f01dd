"""A cluster of two nodes on an object store, one node lost in mid-run: the job ends, complete and audited."""

import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import boto3
import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus
from moto.server import ThreadedMotoServer

from curation.shards.reader import Shards
from curation.stores.storage import Store

RECORDS = 24
MANIFEST = """\
name: cluster
source: {table: captions.jsonl, media: file, caption: caption}
score:
  - resolution: {keep: "min_side >= 64"}
  - phash
  - "helpers.stages:Slow": {seconds: 0.4}
select: {duplicates: exact}
encode: {size: 64, shards: {samples: 6}, reconstructions: 1}
engine: {rows_per_chunk: 2}
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of a bucket that holds the manifest and its corpus."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="corpus")
    write_corpus(tmp_path / "corpus", RECORDS)
    (tmp_path / "corpus" / "manifest.yaml").write_text(MANIFEST)
    for file in (tmp_path / "corpus").iterdir():
        client.upload_file(str(file), "corpus", f"in/{file.name}")
    yield f"s3://corpus/PATH?endpoint_override={quote(f'http://{host}:{port}', safe='')}&region=us-east-1"
    server.stop()


def test_a_lost_node_costs_no_record(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("RAY_health_check_period_ms", "1000")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    try:
        out = Store(bucket.replace("PATH", "runs/one"))
        command = [
            sys.executable,
            "-m",
            "curation",
            "run",
            bucket.replace("PATH", "in/manifest.yaml"),
            "--out",
            out.root,
            "--address",
            cluster.address,
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
        )
        deadline = time.monotonic() + 200
        while len(out.list("scores")) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert process.poll() is None, process.communicate()[0]
        cluster.remove_node(second, allow_graceful=False)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    finally:
        cluster.shutdown()
    report = json.loads(out.read("run.json"))
    selection = pq.read_table(io.BytesIO(out.read("selection.parquet")))
    decisions = Counter(selection["decision"].to_pylist())
    assert report["sources_in"] == report["records_in"] == RECORDS == sum(decisions.values())
    assert report["kept"] == decisions["kept"] == RECORDS
    samples = list(Shards(bucket.replace("PATH", "runs/one/shards")))
    assert sorted(sample.id for sample in samples) == sorted(selection["id"].to_pylist())
