"""Numbers that a formula in torch and its Warp kernel share."""

# Factors of the spatial hash along x, y, z (Müller et al. 2022, "Instant Neural Graphics Primitives", section 3).
HASH_PRIMES = (1, 2654435761, 805459861)
# Density is read linearly from grid features, which trains far faster on a CPU than through an MLP;
# the shift makes empty space nearly empty at the start, the scale lets a surface become opaque within a voxel.
DENSITY_SHIFT = 4.0
DENSITY_SCALE = 50.0
# Where rays end, in normalised scene units.
FAR = 1000.0
# Of the whole weight, spread evenly over a proposal's intervals, so that no interval is lost for good.
PADDING = 0.01
# Keeps the interlevel loss finite where a weight is zero.
TINY_WEIGHT = 1e-7
# A marched ray ends when its transmittance falls below this, far below what an 8-bit image can show.
LEAST_TRANSMITTANCE = 1e-4
