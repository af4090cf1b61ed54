"""The links of wikitext: which there are, where they lead, and what they show."""

from typing import NamedTuple

import pytest

from tests.importing.wiki.dumps import NAMESPACES
from zeshel_tasks.importing.wiki.markup import plain_text
from zeshel_tasks.importing.wiki.page import Site
from zeshel_tasks.importing.wiki.titles import Titles

TITLES = Titles(Site(NAMESPACES))


class Case(NamedTuple):
    """Wikitext, what it shows, its links (text -> title), and the reasons of the links that are left out."""

    name: str
    wikitext: str
    shown: str
    links: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()


VASK = (("Vask", "Vask"),)
HERE, TABLE, REFERENCE = "to a section of the same page", "in a table", "in a reference"
CAPTION, FILE, CATEGORY = "in a caption", "shows a file", "puts the page into a category"

CASES = (
    Case("plain", "the [[Vask]] left", "the Vask left", VASK),
    Case("small first letter", "the [[vask]]", "the vask", (("vask", "Vask"),)),
    Case("pipe", "a [[Vask|ferry]]", "a ferry", (("ferry", "Vask"),)),
    Case("trail", "two [[Vask]]s", "two Vasks", (("Vasks", "Vask"),)),
    Case("trail after a pipe", "[[Vask|ferr]]ies", "ferries", (("ferries", "Vask"),)),
    Case("trail with an umlaut", "[[Orlen|Stadt]]größe", "Stadtgröße", (("Stadtgröße", "Orlen"),)),
    Case("trail in Cyrillic", "[[Баск|паром]]ы", "паромы", (("паромы", "Баск"),)),
    Case("no trail of digits", "[[Vask]]2s", "Vask2s", VASK),
    Case("no trail of capitals", "[[Vask]]S", "VaskS", VASK),
    Case("no trail in Japanese", "[[東京]]は都市", "東京は都市", (("東京", "東京"),)),
    Case("trail in Hebrew", "[[עיר]]ות", "עירות", (("עירות", "עיר"),)),
    Case("no trail after nowiki", "[[Vask]]<nowiki/>s", "Vasks", VASK),
    Case("trail after a comment", "[[Vask]]<!-- x -->s", "Vasks", (("Vasks", "Vask"),)),
    Case("pipe trick", "[[Orlen (river)|]]", "Orlen", (("Orlen", "Orlen (river)"),)),
    Case("pipe trick after a namespace", "[[:Kategorie:Ferries|]]", "Ferries", (("Ferries", "14:Ferries"),)),
    Case("pipe trick with a comma", "[[Orlen, North]] [[Orlen, North|]]", "Orlen, North Orlen",
         (("Orlen, North", "Orlen, North"), ("Orlen", "Orlen, North"))),
    Case("section", "[[Vask#History|its past]]", "its past", (("its past", "Vask"),)),
    Case("section without a pipe", "[[Vask#History]]", "Vask#History", (("Vask#History", "Vask"),)),
    Case("section of this page", "[[#History|above]]", "above", (), (HERE,)),
    Case("underscores and spaces", "[[ orlen__ (river) ]]", "orlen__ (river)", (("orlen__ (river)", "Orlen (river)"),)),
    Case("percent and entities", "[[Orlen%20%28river%29|a]] [[R&amp;D|b]]", "a b",
         (("a", "Orlen (river)"), ("b", "R&D"))),
    Case("local namespace in any case", "[[KATEGORIE:Ferries]]x", "x", (), (CATEGORY,)),
    Case("English namespace", "[[Category:Ferries|sort]]x", "x", (), (CATEGORY,)),
    Case("link to a category", "[[:Category:Ferries]]", "Category:Ferries", (("Category:Ferries", "14:Ferries"),)),
    Case("link to a talk page", "[[diskussion: Vask|talk]]", "talk", (("talk", "1:Vask"),)),
    Case("title with a colon", "[[Vask: a tale]]", "Vask: a tale", (("Vask: a tale", "Vask: a tale"),)),
    Case("file with nested captions", "x [[Image:a.png|thumb|a [[Vask]] and [[:File:b.png|b [[c]]]]]]", "x", (),
         (FILE, CAPTION, CAPTION, CAPTION)),
    Case("file of an unknown alias", "x [[Bild:a.jpg|thumb|the [[Vask]]]]", "x", (), (FILE, CAPTION)),
    Case("other wiki", "[[w:Vask|ferry]] [[:de:Vask]]", "ferry de:Vask", (), ("to another wiki", "to another wiki")),
    Case("other language", "x [[de:Vask]]", "x", (), ("to another language",)),
    Case("no link", "<nowiki>[[Vask]] ''a''</nowiki> [[a\nb]]", "[[Vask]] ''a'' [[a b]]"),
    Case("comment", "a<!-- [[Vask]] --> b", "a b"),
    Case("reference", "a<ref name=x>see [[Vask]]</ref> <ref name=x /> b", "a b", (), (REFERENCE,)),
    Case("table", "a\n{| class=x\n! [[Vask]]\n|-\n| [[Orlen]] || {{t|[[x]]}}\n|}\nb", "a b", (), (TABLE, TABLE, TABLE)),
    Case("template", "a {{box|[[Vask]]|n=[[Orlen]]|{{in|[[x]]}}}} b", "a b", (), ("in a template",) * 3),
    Case("template in a target", "[[{{town}}|the town]]", "the town", (), ("a template in its target",)),
    Case("bold and italics", "'''[[Vask]]''' ''[[Orlen|'''big''' town]]'' l''''a'''", "Vask big town l'a",
         (("Vask", "Vask"), ("big town", "Orlen"))),
    Case("link in a link", "[[Orlen|the [[Vask]] there]]", "the Vask there", VASK, ("around another link",)),
    Case("brackets at the end of a text", "[[Vask|[sic]]]s [[Vask|x]]] [[Vask]]]", "[sic]s x] Vask]",
         (("[sic]s", "Vask"), ("x", "Vask"), ("Vask", "Vask"))),
    Case("link in an attribute", '[[Vask|a <span title="[[Orlen]]">b</span>]]', "a b", (("a b", "Vask"),)),
    Case("percent without a pipe", "[[Orlen%20(river)]] [[100%]]", "Orlen (river) 100%",
         (("Orlen (river)", "Orlen (river)"), ("100%", "100%"))),
    Case("space as text", "[[Vask| ]]", "", (), ("without a text",)),
    Case("paths, entities and colons", "[[../Vask|a]] [[a/./b|c]] [[..|d]] [[R&amp;amp;D|e]] [[7%2525|f]] [[::x|g]]",
         "a c d e f g", (), ("not a title",) * 6),
    Case("a title with dots", "[[St. Orlen.|a]] [[...|b]]", "a b", (("a", "St. Orlen."), ("b", "..."))),
    Case("no text", "a [[Vask|<!-- -->{{t}}]] b", "a b", (), ("without a text",)),
    Case("not a title", "[[A<b|x]] [[a~~~~|y]] [[|z]]", "[[A<b|x]] y z", (), ("not a title", "not a title")),
    Case("list, heading, quotation", "* [[Vask]]\n== [[Orlen]] ==\n<blockquote>a</blockquote>b", "Vask Orlen a b",
         (("Vask", "Vask"), ("Orlen", "Orlen"))),
    Case("external link", "[http://x.org the [[Vask]]] [http://x.org] http://y.org", "the Vask http://y.org", VASK),
    Case("entities", "&lt;b&gt; &#x5bf; &#xD800; a&nbsp;b", "<b> \u05bf \ufffd a b"),
    Case("right to left", "\u200f[[\u200fעיר|הבירה]]\u200f", "\u200fהבירה\u200f", (("הבירה", "עיר"),)),
    Case("gallery and markup without text", "<gallery>\na.png|[[Vask]]\n</gallery>__TOC__<br />x", "x", (), ()),
    Case("unknown tag and stray tag", "<tabber>[[Vask]]</tabber> a</div>", "Vask a", VASK),
    Case("included elsewhere", "<noinclude>[[Vask]]</noinclude><includeonly>[[x]]</includeonly>", "Vask", VASK,
         ("in a tag that is left out",)),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_links_of_wikitext(case: Case) -> None:
    found = plain_text(case.wikitext, TITLES)
    assert " ".join(found.text.split()) == case.shown
    titles = {link: link.name if link.namespace == 0 else f"{link.namespace}:{link.name}" for link in found.links}
    assert [(found.text[link.start : link.end], titles[link]) for link in found.links] == [
        (shown, title) for shown, title in case.links
    ]
    assert [dropped.reason for dropped in found.dropped] == list(case.dropped)


def test_case_of_the_first_letter_matters_on_some_wikis() -> None:
    titles = Titles(Site(NAMESPACES, frozenset({0})))
    assert titles.of_link("vask").name == titles.of_page("vask")[1] == "vask"
    assert titles.of_link("kategorie:vask").name == "Vask"
