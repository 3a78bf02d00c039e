"""What a run is, where finished runs stand, and how many are made."""
