"""Texts to link: files of JSON lines, their mentions, and what is written of them.

utf16.py         offsets in UTF-16 code units, as JavaScript and Java count
marked.py        texts whose mentions are in [[double brackets]]
contexts.py      the tokens around a mention of a plain text
lines.py         the forms of an input line
answers.py       the answer for a mention, and the output line
counts.py        counts of what was linked
batches.py       links the lines of a file in bounded memory
shards.py        links all files of a folder or prefix, each once
plan.py          which files several machines link, and the sum of what they did
"""
