"""How well anomalies are found."""
