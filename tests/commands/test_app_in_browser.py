"""The web page in Chromium: `python src/app.py` with a small network, as a person uses it."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import SMALL_SPEC, SRC, build_network, wait_until

pytestmark = pytest.mark.tf

webdriver = pytest.importorskip(
    "selenium.webdriver",
    reason="no selenium: pip install --require-hashes -r requirements-browser.txt",
)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip(
        "no chromium or no chromedriver: apt-get install chromium chromium-driver",
        allow_module_level=True,
    )

CLASSES = ["a_class_with_a_name_that_is_longer_than_a_telephone_is_wide" * 2, "left & up", "right"]
NARROW_PX = 390

# A browser that opens no address but the page's, keeps nothing, and runs without a screen.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A selenium driver of Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    # With both paths given, selenium downloads nothing.
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network that is not trained, for 12 x 12 gray pixels."""
    from imgpipe.nn.common.model_signature import PIXELS, ModelSignature
    from imgpipe.nn.fitting.saved_model import save_model

    path = tmp_path_factory.mktemp("model") / "model.keras"
    network = build_network("mlp", shape=(12, 12, 1), classes=len(CLASSES))
    signature = ModelSignature(
        format_version=1,
        dataset="sides <of> " * 9,
        classes=CLASSES,
        pixels=PIXELS,
        image_spec=SMALL_SPEC,
    )
    save_model(network, signature, path)
    return path


@contextmanager
def serve(model: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command; yield the address of its page, and its process."""
    with subprocess.Popen(
        [sys.executable, SRC / "app.py", "--port", "0", "--model", model],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("app: http://127.0.0.1:"), line
            yield line.split()[1], process
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    with serve(model) as (address, _):
        yield address


class Page:
    """What a person sees and does on the page."""

    def __init__(self, browser: Any, address: str, width_px: int = 1280) -> None:
        self._browser = browser
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",  # windows have a minimum width
            {"width": width_px, "height": 844, "deviceScaleFactor": 1, "mobile": width_px < 600},
        )
        browser.get(address)

    def find(self, selector: str) -> list[Any]:
        """Return the elements of a selector that are visible."""
        found = self._browser.find_elements("css selector", selector)
        return [element for element in found if element.is_displayed()]

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; return its result."""
        return self._browser.execute_script(script, *arguments)

    def choose(self, path: Path) -> None:
        """Choose a file, as by the dialog."""
        self._browser.find_element("id", "file").send_keys(str(path))

    def drop(self, name: str, content: bytes, copies: int = 1) -> None:
        """Drop a file, or equal files, on the page."""
        self.run(
            """
            const [name, content, copies] = arguments, transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            for (let i = 0; i < copies; i++) transfer.items.add(new File([bytes], name));
            document.body.dispatchEvent(new DragEvent(
              "drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
            """,
            name,
            base64.b64encode(content).decode(),
            copies,
        )

    def stroke(self, *points: tuple[float, float], touch: bool = False) -> None:
        """Draw a line through points, in parts of the canvas from its upper left corner."""
        box = self.run(
            "const canvas = document.getElementById('canvas');"
            "canvas.scrollIntoView({block: 'center'});"
            "return canvas.getBoundingClientRect().toJSON();"
        )
        places = [
            {"x": box["left"] + x * box["width"], "y": box["top"] + y * box["height"]}
            for x, y in points
        ]
        if touch:
            for kind, touched in (
                ("touchStart", places[:1]),
                *(("touchMove", [place]) for place in places[1:]),
                ("touchEnd", []),
            ):
                self._browser.execute_cdp_cmd(
                    "Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched}
                )
            return
        for kind, place in (
            ("mousePressed", places[0]),
            *(("mouseMoved", place) for place in places[1:]),
            ("mouseReleased", places[-1]),
        ):
            self._browser.execute_cdp_cmd(
                "Input.dispatchMouseEvent",
                {"type": kind, **place, "button": "left", "buttons": 1, "clickCount": 1},
            )

    def press(self, *keys: str) -> None:
        """Press keys, one after another, on the element that has the focus."""
        webdriver.ActionChains(self._browser).send_keys(*keys).perform()

    @property
    def focused(self) -> str:
        """The id of the element that has the focus."""
        return str(self.run("return document.activeElement.id"))

    @property
    def answer(self) -> list[str]:
        """The names of the classes that are shown, likeliest first."""
        return [element.text for element in self.find("#classes .name")]

    @property
    def error(self) -> str:
        """The error that is shown."""
        return "".join(element.text for element in self.find("#error"))

    @property
    def pictures(self) -> list[NDArray[np.uint8]]:
        """The pictures that are shown; each must have content."""
        found = [element.get_attribute("src") for element in self.find("img")]
        return [
            np.asarray(Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))))
            for source in found
        ]

    @property
    def width_px(self) -> int:
        """The width of the content; if the screen is narrower, the page scrolls horizontally."""
        return int(self.run("return document.documentElement.scrollWidth"))

    def wait_for_answer(self) -> None:
        """Wait until the classes are shown."""
        wait_until(lambda: self.answer)
        assert self.error == ""
        assert sorted(self.answer) == sorted(CLASSES)
        assert len(self.pictures) == 2

    def wait_for_error(self) -> str:
        """Wait for an error; return its line, after which nothing of an earlier answer is left."""
        found = str(wait_until(lambda: self.error))
        assert self.answer == []
        assert self.run("return document.images.length") == 0
        assert "\n" not in found
        return found


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / "a photograph.jpg"
    Image.fromarray(pixels).save(path)
    return path


def test_the_first_view_has_no_picture_no_answer_and_no_error(browser: Any, address: str) -> None:
    page = Page(browser, address)
    assert page.run("return document.images.length") == 0
    assert page.find("#result") == page.answer == []
    assert page.error == ""
    assert page.width_px == 1280


def test_a_photograph_is_answered_and_a_text_after_it_leaves_only_an_error(
    browser: Any, address: str, photograph: Path, tmp_path: Path
) -> None:
    page = Page(browser, address)
    page.choose(photograph)
    page.wait_for_answer()
    assert page.find("#subject")[0].text == "a photograph.jpg"
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    page.choose(text)
    assert page.wait_for_error().startswith("notes.txt: cannot be read as an image: ")
    page.choose(photograph)
    page.wait_for_answer()


def test_dropped_files_are_answered_or_refused(
    browser: Any, address: str, photograph: Path
) -> None:
    page = Page(browser, address)
    page.drop("dropped.jpg", photograph.read_bytes())
    page.wait_for_answer()
    page.drop("rotten.png", b"rotten")
    assert page.wait_for_error().startswith("rotten.png: cannot be read as an image: not an image")
    page.run(
        "document.body.dispatchEvent(new DragEvent('drop',"
        " {dataTransfer: new DataTransfer(), bubbles: true, cancelable: true}))"
    )
    wait_until(lambda: page.error == "Dropped: expected an image file")
    page.drop("one.jpg", photograph.read_bytes(), copies=2)
    wait_until(
        lambda: (
            page.error
            == "Dropped: expected an image file; found 2; for many: python src/predict.py FOLDER"
        )
    )


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    browser: Any, address: str, tmp_path: Path
) -> None:
    page = Page(browser, address)
    large = tmp_path / "large.png"
    with large.open("wb") as stream:
        stream.truncate(65 << 20)
    page.choose(large)
    assert page.wait_for_error() == "large.png: 68.2 MB is too large; expected at most 64.0 MB"


@pytest.mark.parametrize("touch", [False, True])
def test_a_drawing_is_answered(browser: Any, address: str, touch: bool) -> None:
    page = Page(browser, address, NARROW_PX if touch else 1280)
    page.stroke((0.2, 0.1), (0.2, 0.5), (0.2, 0.9), touch=touch)
    page.wait_for_answer()
    seen = page.pictures[0].astype(float)
    assert seen.shape == (12, 12)
    assert seen[3:9, 2].min() > 200 > 20 > seen[:, 5:].max()  # where the pen was
    page.find("#clear")[0].click()
    assert page.answer == page.find("img") == []


def test_the_page_is_used_by_the_keyboard(browser: Any, address: str) -> None:
    page = Page(browser, address)
    tab, down = "\ue004", "\ue015"
    visited = []
    for _ in range(3):
        page.press(tab)
        visited.append(page.focused)
    assert visited == ["file", "canvas", "clear"]
    page.run("document.getElementById('canvas').focus()")
    page.press(*[down] * 6)
    page.wait_for_answer()
    seen = page.pictures[0].astype(float)
    assert seen[6:9, 5:7].min() > 100 > 20 > max(seen[:4].max(), seen[:, :3].max())


def test_a_narrow_screen_needs_no_horizontal_scrolling(
    browser: Any, address: str, photograph: Path, tmp_path: Path
) -> None:
    page = Page(browser, address, NARROW_PX)
    assert page.width_px <= NARROW_PX
    page.choose(photograph)
    page.wait_for_answer()
    assert page.width_px <= NARROW_PX
    name = tmp_path / f"{'long' * 40}.txt"
    name.write_text("no image")
    page.choose(name)
    page.wait_for_error()
    assert page.width_px <= NARROW_PX


def test_a_stopped_server_is_reported(browser: Any, model: Path, photograph: Path) -> None:
    with serve(model) as (address, process):
        page = Page(browser, address)
        page.choose(photograph)
        page.wait_for_answer()
        process.kill()
        process.wait()
        page.choose(photograph)
        assert "make app" in page.wait_for_error()
