"""Turns the dump of a MediaWiki into a world as ZESHEL's authors made theirs: pages are entities, links are mentions.

dump.py       pages of a dump, one at a time
titles.py     what a link's target means on this wiki
markup.py     wikitext -> text and links
child.py      the process that runs markup.py
parser.py     starts that process and ends it if a page takes too much time or memory
chunks.py     parsed pages in files, which another attempt reuses
page_index.py titles and redirects, on disk
summary.py    what was kept, what was dropped, and why
world.py      documents and mentions
"""
