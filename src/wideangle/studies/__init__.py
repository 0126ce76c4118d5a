"""Studies: grids of ensembles that outgrow one machine, stored and resumable."""
