"""The browser app end to end: a server process, tiny bundles, and what a user of Chromium sees."""

import asyncio
import base64
import io
import json
import signal
import zipfile

import aiohttp
import nibabel as nib
import numpy as np
import pytest
from app_process import serving_app
from chromium import chromium
from patience import PATIENCE
from phantoms import phantom_image

from BrainGenLib.browser.access import cookie_of
from BrainGenLib.spaces import GRID_2MM as GRID

LESION = "wmh"
OF_ONE_DONOR = ".braingen-slider-of-one-donor"


@pytest.fixture
def server(tiny_folder, tmp_path):
    """Process and address of ``braingen app`` on a free port."""
    with serving_app(tiny_folder, tmp_path / "app.log") as served:
        yield served


# Below the words in each picture, and below the bar over it.
_BELOW_WORDS, _BELOW_BAR = 75, 28


async def views(page, edge=_BELOW_WORDS):
    """Pictures of the three slice views and the 3D view, by name, from so many pixels below their upper edge."""
    found = {}
    shot = await page.picture()
    boxes = await page.evaluate(
        "[...document.querySelectorAll('.layout-grid-item')].map(e => { const r = e.getBoundingClientRect();"
        "return [e.innerText, r.left, r.top, r.right, r.bottom]; })"
    )
    for text, *edges in boxes:
        left, top, right, bottom = map(round, edges)
        found[text.split()[0]] = shot[top + edge : bottom - 70, left + 30 : right - 10]
    return found


async def settled(page, seen):
    """Wait until a condition on the pictures of the views holds; returns them."""
    for _ in range(int(PATIENCE / 0.3)):
        pictures = await views(page)
        if seen(pictures):
            return pictures
        await asyncio.sleep(0.3)
    await page.picture("/tmp/braingen-page.png")
    raise AssertionError("the views do not show it; the page is in /tmp/braingen-page.png")


def bright(picture):
    """Share of grey pixels that are not black."""
    low, high = picture.min(-1).astype(int), picture.max(-1).astype(int)
    return ((low > 60) & (high - low < 25)).mean()


def coloured(picture):
    """Share of pixels of outlines."""
    return (np.ptp(picture.astype(int), -1) > 60).mean()


def marked(picture):
    """Whether the red of SYNTHETIC stands in the middle of the upper edge."""
    words = picture[: _BELOW_WORDS - _BELOW_BAR, picture.shape[1] // 3 : -picture.shape[1] // 3].astype(int)
    return ((words[..., 0] - words[..., 1] > 80) & (words[..., 0] > 200)).sum() > 50


_CAPTIONS = "[...document.querySelectorAll('.braingen-caption')].map(e => e.textContent)"


async def captions(page):
    """What each view says of its picture: axial, 3D, coronal, sagittal."""
    return await page.evaluate(_CAPTIONS)


async def send(page, path, kind):
    """Upload a file."""
    content = base64.b64encode(path.read_bytes()).decode()
    await page.evaluate(
        f"(async () => {{ const bytes = Uint8Array.from(atob('{content}'), c => c.charCodeAt(0));"
        f"const form = new FormData(); form.append('file', new Blob([bytes]), '{path.name}');"
        f"await fetch('upload?kind={kind}', {{method: 'POST', body: form}}); }})()"
    )


async def choose(page, selector, title):
    """Choose an entry of a list."""
    await page.evaluate(
        f"(e => {{ e.value = [...e.options].find(o => o.innerText === '{title}').value;"
        f" e.dispatchEvent(new Event('change')) }})(document.querySelector('{selector}'))"
    )


async def done(page):
    """Wait for the run to end."""
    await page.until("/Done|Cancelled/.test(document.querySelector('#braingen-state').innerText)", PATIENCE)


async def walk(process, address, folder):
    """What a user does; the names in the comments are those of the panel."""
    async with chromium() as page:
        await page.go(address)
        # Generate: a pathology and a second contrast.
        await page.press(f".braingen-slider-{LESION} .v-slider-thumb", "End")
        await page.press(f"{OF_ONE_DONOR} .v-slider-thumb", "Home")
        await page.until(f"document.querySelector('{OF_ONE_DONOR}').parentElement.innerText.includes('at most 10 %')")
        await page.evaluate("document.querySelectorAll('#braingen-contrasts input')[1].click()")
        await page.click("#braingen-generate")
        await page.until("!!document.querySelector('#braingen-cancel-generate')")
        await page.until("!!document.querySelector('#braingen-progress')")
        await page.until("document.querySelector('#braingen-state').innerText.includes('s left')")
        await done(page)
        await page.until("document.querySelector('#braingen-cases').innerText.includes('generate-01')")
        # The slider's last place was known when the run began.
        await page.until(f"document.querySelector('#braingen-cases').innerText.includes('{LESION} 1.00')")
        slices = ("Axial", "Coronal", "Sagittal")
        first = await settled(
            page, lambda seen: all(bright(seen[name]) > 0.03 and coloured(seen[name]) > 0.002 for name in slices)
        )
        assert await captions(page) == [f"generate-01 {shown} SYNTHETIC" for shown in ("T1w", "labels", "T1w", "T1w")]
        # They can be read even where a picture of another size is cut off.
        width = "Math.min(...[...document.querySelectorAll('.braingen-caption')].map(e => e.clientWidth))"
        assert await page.evaluate(width) > 100
        assert all(map(marked, (await views(page, _BELOW_BAR)).values()))
        await settled(page, lambda seen: np.ptp(seen["3D"].astype(int), (0, 1)).max() > 120)

        # A scan says its own name alone; a click on a contrast changes picture and words, without a touch of a view.
        await send(page, folder / "patient26_T2.nii.gz", "scan")
        await page.until(f"{_CAPTIONS}[0] === 'patient26_T2'")
        assert await captions(page) == ["patient26_T2", "", "patient26_T2", "patient26_T2"]
        await settled(page, lambda seen: bright(seen["Axial"]) > 0.1 and coloured(seen["Axial"]) < 0.001)
        assert not any(map(marked, (await views(page, _BELOW_BAR)).values()))

        # A mask is asked which lesion it is, and of which scan.
        await send(page, folder / "lesions.nii.gz", "segmentation")
        await page.until("!!document.querySelector('#braingen-which-lesion')")
        assert await page.evaluate("document.querySelector('#braingen-answer').disabled")
        await choose(page, "#braingen-which-lesion", "multiple sclerosis lesion")
        await choose(page, "#braingen-which-scan", "patient26_T2")
        await page.click("#braingen-answer")
        await page.until(f"{_CAPTIONS}[0] === 'patient26_T2 + lesions labels'")
        await page.click("[title='Hide lesions']")
        await page.until(f"{_CAPTIONS}.every(text => text === '')")

        await page.click("[title='Show FLAIR']")
        await page.until(f"{_CAPTIONS}[0] === 'generate-01 FLAIR SYNTHETIC'")
        await settled(page, lambda seen: coloured(seen["Axial"]) > 0.002)
        assert all(map(marked, (await views(page, _BELOW_BAR)).values()))

        # Render from segmentation: the lesion erased.
        await page.evaluate(
            "[...document.querySelectorAll('.v-expansion-panel-title')]"
            ".find(e => e.innerText.startsWith('Render')).click()"
        )
        await choose(page, "#braingen-render-segmentation", "generate-01 segmentation SYNTHETIC")
        await page.click("[title='Erase white matter hyperintensity']")
        await page.until("!!document.querySelector(\"[title='Restore white matter hyperintensity']\")")
        await settled(page, lambda seen: not np.array_equal(seen["Axial"], first["Axial"]))
        await page.click("#braingen-render")
        await page.until("!!document.querySelector('#braingen-cancel-render')")
        await done(page)
        await page.until("document.querySelector('#braingen-cases').innerText.includes('render-01')")

        # Engine: a bundle that renders nothing, and back.
        await page.evaluate(
            "[...document.querySelectorAll('.v-expansion-panel-title')]"
            ".find(e => e.innerText.startsWith('Engine')).click()"
        )
        await page.until("!!document.querySelector('#braingen-bundle')")
        assert not await page.evaluate("document.querySelector('#braingen-render').disabled")
        for bundle, refused in (("brain-ldm", "true"), ("brainspade3d", "false")):
            await page.evaluate(
                f"(e => {{ e.value = '{bundle}'; e.dispatchEvent(new Event('change')) }})"
                "(document.querySelector('#braingen-bundle'))"
            )
            await page.until(f"document.querySelector('#braingen-render').disabled === {refused}")
            await page.until(f"document.body.innerText.includes('cannot make images of labels') === {refused}")
            # Of images without labels no donors are known.
            await page.until(f"!document.querySelector('{OF_ONE_DONOR}') === {refused}")

        # A file of the user.
        form = "const form = new FormData(); form.append('file', new Blob(['no image']), 'a.nii');"
        await page.evaluate(
            f"(async () => {{ {form} await fetch('upload?kind=scan', {{method: 'POST', body: form}}) }})()"
        )
        await page.until("document.body.innerText.includes('a.nii is not a NIfTI file')")

        # Cancel.
        await page.click("#braingen-generate")
        await page.click("#braingen-cancel-generate")
        await page.until("document.querySelector('#braingen-state').innerText.includes('Cancelled')", PATIENCE)

        assert page.problems == []
        parts = await downloads(*address.split("/index.html?token="))

        # The server is stopped.
        process.send_signal(signal.SIGINT)
        await page.until("!!document.querySelector('#braingen-gone')")
        said = await page.text()
        assert "has ended" in said
        assert "start it again" in said
        assert "results are kept" in said
        assert "started anew" not in said
    return parts


async def downloads(server, token):
    """The two cases as zip archives; and nothing for who does not bring the token."""
    async with aiohttp.ClientSession() as stranger:
        for path in ("index.html", "ws", "download?case=generate-01", "braingen/braingen.js"):
            async with stranger.get(f"{server}/{path}") as answer:
                assert answer.status == 403
        async with stranger.post(f"{server}/upload", data=b"") as answer:
            assert answer.status == 403
    parts = {}
    async with aiohttp.ClientSession(cookies={cookie_of(server.removeprefix("http://")): token}) as visitor:
        for name in ("generate-01", "render-01"):
            async with visitor.get(f"{server}/download?format=bids&case={name}") as answer:
                assert answer.status == 200
                parts[name] = await answer.read()
        async with visitor.get(f"{server}/download?case=nothing") as answer:
            assert answer.status == 404
    return parts


def images(data, folder):
    """The images of a downloaded dataset with one case, as nibabel reads them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
    return {path.name[9:-7]: nib.load(path).get_fdata() for path in folder.rglob("*.nii.gz")}


def test_a_user_generates_erases_renders_cancels_and_downloads(server, tmp_path, phantom_classes):
    process, address = server
    nib.save(nib.Nifti1Image(phantom_image(phantom_classes), GRID.affine), tmp_path / "patient26_T2.nii.gz")
    nib.save(
        nib.Nifti1Image((phantom_classes == phantom_classes.max()).astype(np.uint8), GRID.affine),
        tmp_path / "lesions.nii.gz",
    )
    parts = asyncio.run(walk(process, address, tmp_path))
    generated = images(parts["generate-01"], tmp_path / "generated")
    rendered = images(parts["render-01"], tmp_path / "rendered")
    assert set(generated) == {"T1w", "FLAIR", "dseg", "desc-donors_dseg"}
    # It was erased from a copy of the first case's labels; the second was made from what was left.
    assert (generated["dseg"] == 77).any()
    assert not (rendered["dseg"] == 77).any()
    assert np.abs(generated["T1w"] - rendered["T1w"]).max() > 0.01

    rest, _ = process.communicate(timeout=PATIENCE)
    assert "torch imported: False" in rest
    assert "Traceback" not in (tmp_path / "app.log").read_text(encoding="utf-8")
    kept = [
        json.loads(path.read_text(encoding="utf-8"))["name"]
        for path in sorted((tmp_path / "kept").glob("*/about.json"))
    ]
    assert kept == ["generate-01", "patient26_T2", "lesions", "generate-01 edited", "render-01"]
