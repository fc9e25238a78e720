"""From the picture of a chart and a question to the model's text, and to an answer."""
