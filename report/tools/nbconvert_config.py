"""nbconvert settings of the report.

jupyter nbconvert --config report/tools/nbconvert_config.py --to pdf Task4_Autoencoders.ipynb
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from report.tools import paper  # noqa: E402

c = get_config()  # noqa: F821
c.TemplateExporter.extra_template_basedirs = [str(HERE)]
c.LatexExporter.template_name = "template"
c.LatexExporter.exclude_input = True
c.LatexExporter.exclude_input_prompt = True
c.LatexExporter.exclude_output_prompt = True
c.LatexExporter.exclude_raw = True
c.LatexExporter.preprocessors = [paper.Paper]
c.LatexExporter.filters = {
    "to_latex": paper.to_latex,
    "to_plain": paper.to_plain,
    "to_date": paper.to_date,
}
c.NbConvertBase.display_data_priority = [
    "application/pdf",
    "image/png",
    "text/markdown",
    "text/plain",
]
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {"screen-only"}
