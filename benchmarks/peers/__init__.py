"""OCC Lab and anomalib on the same images, backbone weights and cores, one after the other."""
