"""What makes the report: run the notebook, build the PDF, check the text."""
