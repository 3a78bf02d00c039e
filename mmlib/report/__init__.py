"""What the notebooks report: statistics, tables, figures, artifacts and the page that shows them."""
