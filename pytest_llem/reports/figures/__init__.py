"""Figures of the HTML report: values -> SVG, by matplotlib. Its colours are those of the page."""
