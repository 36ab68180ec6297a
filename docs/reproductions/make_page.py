"""Write docs/reproductions.md from the results in this folder: python docs/reproductions/make_page.py

A result is the result.json of `saddlegan reproduce NAME --full`, stored here as NAME.json, or as NAME.DATA.json
for further data.
"""

from pathlib import Path

from saddlegan.workbench.reproductions import summary

HERE = Path(__file__).parent

if __name__ == "__main__":
    (HERE.parent / "reproductions.md").write_text(summary.page(summary.stored(HERE)))
