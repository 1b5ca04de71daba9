"""JupyterLab opens a chapter as a notebook, and saving it writes the Markdown back with the outputs kept out of git."""
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from lib.press import lab


@pytest.fixture
def server(executed):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (executed.root / "pyproject.toml").write_text((lab.ROOT / "pyproject.toml").read_text())
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.token=t"]
    options += ["--ServerApp.disable_check_xsrf=True"]
    command = [lab.sys.executable, "-m", "lib.press.lab", *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
    log = open(executed.root / "lab.log", "w")
    process = subprocess.Popen(command, cwd=executed.root, env=environment, stdout=log, stderr=log)

    def ask(path, method="GET", data=None):
        body = None if data is None else json.dumps(data).encode()
        url = f"http://127.0.0.1:{port}/{path}{'&' if '?' in path else '?'}token=t"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    ask.root = executed.root
    end = time.monotonic() + 60
    while True:
        try:
            ask("api")
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end and process.poll() is None, (executed.root / "lab.log").read_text()
            time.sleep(0.2)
    yield ask
    process.terminate()
    process.wait(20)
    log.close()


def test_a_chapter_opens_as_a_notebook_and_saves_as_markdown(server):
    page = "api/contents/book/studies/tiny.md"
    opened = server(f"{page}?type=notebook")
    cells = opened["content"]["cells"]
    assert [c["cell_type"] for c in cells].count("code") == 5
    cells[0]["source"] = "# Tiny, edited in the lab"
    cells[-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "seen\n"}]
    server(page, "PUT", {"type": "notebook", "format": "json", "content": opened["content"]})
    markdown = (server.root / "book/studies/tiny.md").read_text()
    assert "edited in the lab" in markdown and "seen" not in markdown
    assert "seen" in (server.root / "_build/ipynb/studies/tiny.ipynb").read_text()
    settings = server("lab/api/settings/@jupyterlab/docmanager-extension:plugin")
    assert settings["schema"]["properties"]["defaultViewers"]["default"] == {"markdown": "Jupytext Notebook"}


def test_kernels_of_the_lab_get_the_presss_memory_settings_and_one_thread_unless_told(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = lab.environment()
    assert environment["MALLOC_MMAP_THRESHOLD_"] and environment["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {lab.environment()[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}
