"""What people write where they may, in two kinds: as most do, and as nobody should."""

from __future__ import annotations

from dataclasses import dataclass

ATTACK = "<script>window.ran=1;alert(1)</script><img src=x onerror='window.ran=1'>"
TRICKS = "\"'`\\&lt;{{7*7}}${7*7}%0d\u202egpj.exe\u2067😀é"
"""Quotes of all kinds, an entity, templates, a right-to-left override and an isolate, an emoji, an accent."""
LONG = "W" * 200
CONTROLS = "\x00\x01\x07\x1b[31m\x7f\u200b\ufeff"


@dataclass(frozen=True)
class Words:
    """Each begins with something that only it has, so that it is found on a page.

    ``user``, ``server`` and ``group`` are names as far as the hub permits; ``project`` is as long as a
    project's may be; ``folder`` is any folder that a session can make; ``title`` and ``description`` are
    of courses, images and recipes; ``reason`` is free text; ``printed`` is what a program prints.
    """

    user: str
    server: str
    group: str
    project: str
    folder: str
    title: str
    description: str
    reason: str
    printed: str

    def begin(self, name: str) -> str:
        """The first signs of one of them, enough to know it by; none that is replaced on its way."""
        return str(getattr(self, name))[:20]


ORDINARY = Words(
    user="carol",
    server="second",
    group="seminar",
    project="thesis",
    folder="Old Things",
    title="Machine learning",
    description="Lecture and exercises of this term",
    reason="The fan is being replaced",
    printed="Collecting packages",
)

# The hub forbids only slashes in people's and groups' names (servers have plain ones); a course's roster
# also forbids spaces, commas, colons and what no reader sees.
HOSTILE = Words(
    user="<xss-user onclick=alert(1)>\"'&\u202eresu😀",
    server="w" * 30,
    group="<xss-group>\"'`&{{7*7}}\u202epuorg😀" + "w" * 60,
    project="w" * 63,
    folder=f"<xss-folder>\"'&\u202eredlof😀\x07{'w' * 150}",
    title=f"<xss-title><script>window.ran=1</script>\"'&\u202eeltit😀{'w' * 20}",
    description=f"<xss-description>{ATTACK}{TRICKS}{'w' * 180}",
    reason=f"<xss-reason>{ATTACK}{TRICKS}{CONTROLS}{'w' * 60}",
    printed=f"<xss-printed>{ATTACK}{TRICKS}{LONG}",
)

KINDS = {"ordinary": ORDINARY, "hostile": HOSTILE}

PROBE = r"""() => {
  const isolates = (style) => /isolate|plaintext/.test(style.unicodeBidi);
  // Its direction must not leave it: it is in a <bdi> (or as good as one), or alone in its paragraph.
  const alone = (node) => {
    if (node.parentElement.closest("script, style, title, option, textarea, noscript")) return true;
    for (let e = node.parentElement; e && e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (e.tagName === "BDI" || (style.display.startsWith("inline") && isolates(style))) return true;
      if (!style.display.startsWith("inline")) return e.textContent.trim() === node.textContent.trim();
    }
    return false;
  };
  const start = (e) => e.outerHTML.slice(0, 80);
  const runs = (a) => a.name.startsWith("on") && a.value.includes("ran=1");
  const elements = [...document.querySelectorAll("*")];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const loose = [];
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (/[\u202a-\u202e\u2066-\u2069]/.test(node.textContent) && !alone(node))
      loose.push(`${node.parentElement.outerHTML.slice(0, 60)} … ${node.textContent.trim().slice(0, 50)}`);
  }
  return [
    ...(window.ran ? ["a script ran"] : []),
    ...(window.refused || []).map((what) => `refused by the content policy: ${what}`),
    ...elements.filter((e) => e.tagName.startsWith("XSS-")).map((e) => `an element ${start(e)}`),
    ...elements.filter((e) => [...e.attributes].some(runs)).map((e) => `an attribute of ${start(e)}`),
    ...(document.body.textContent.includes("{49}") ? ["a template ran"] : []),
    ...loose.map((what) => `not isolated: ${what}`),
  ];
}"""
"""What is wrong with how a page shows what people wrote; an empty list where nothing is."""

WATCH = """
addEventListener("securitypolicyviolation", (e) => {
  (window.refused ||= []).push(`${e.violatedDirective} ${e.blockedURI}`);
});
"""
"""For every page, before anything of it runs."""
