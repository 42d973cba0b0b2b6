"""The false-positive rates up to which, or between which, areas are computed."""

AUPRO_LIMIT = 0.3  # of AUPRO, unless another one is given (Bergmann et al., IJCV 2021)
STRICT = 0.05  # of AUPRO and sPRO, computed as well (MVTec LOCO, MVTec AD 2)
LOW, HIGH = 1e-5, 1e-4  # of AUPIMO
