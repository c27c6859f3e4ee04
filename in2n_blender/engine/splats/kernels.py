"""Splats projected to a picture, composited front to back, and their gradients; Adam on the rows that a picture shows.

A thread takes a splat, or a tile of the picture: then the splats in it one after another, and of each only the pixels
that it reaches, which on a CPU saves most of the work. No two threads write to one place, so that the results are the
same however many there are.
"""

from functools import lru_cache

from ..nerf.kernels.launch import warp
from .splat import C0, C1, C2

# As in the reference implementation of 3D Gaussian Splatting.
LOW_PASS = 0.3  # pixels squared, added to each splat's covariance in the picture
MOST_ALPHA, LEAST_ALPHA, LEAST_TRANSMITTANCE = 0.99, 1 / 255, 1e-4
NEAREST = 0.2  # as a share of a splat's largest reach: nearer ones are not drawn
REACH = 3.33  # standard deviations, from which on even an opaque splat is below LEAST_ALPHA
# What a splat is in a picture: its place, the inverse of its covariance (xx, xy, yy), opacity, colour, depth.
PROJECTED = 10


@lru_cache
def depth_kernel():
    """What `rasterizer.draw` launches over all splats.

    Returns:
        A Warp kernel (out: each splat's depth, 0 where it cannot reach into the picture; rows of splats,
        world-to-camera rotation, camera's position, the tangents of the picture's borders (left, right, top, bottom),
        the least logit of an opacity).
    """
    wp = warp()
    reach_of, nearest = wp.constant(REACH), wp.constant(NEAREST)

    @wp.func
    def outside(low: wp.float32, high: wp.float32, place: wp.float32, depth: wp.float32, reach: wp.float32):
        """Whether a ball lies beyond one of the planes through two borders."""
        before = low * depth - place > reach * wp.sqrt(1.0 + low * low)
        return before or place - high * depth > reach * wp.sqrt(1.0 + high * high)

    def depths(
        found: wp.array(dtype=wp.float32),
        rows: wp.array2d(dtype=wp.float32),
        view: wp.mat33,
        position: wp.vec3,
        borders: wp.vec4,
        faintest: wp.float32,
    ):
        i = wp.tid()
        place = view * (wp.vec3(rows[i, 0], rows[i, 1], rows[i, 2]) - position)
        z = place[2]
        reach = reach_of * wp.exp(wp.max(rows[i, 3], wp.max(rows[i, 4], rows[i, 5])))
        depth = wp.float32(0.0)
        if z > nearest * wp.max(reach, 1.0e-9) and rows[i, 10] > faintest:
            if not outside(borders[0], borders[1], place[0], z, reach):
                if not outside(borders[2], borders[3], place[1], z, reach):
                    depth = z
        found[i] = depth

    return wp.kernel(enable_backward=False, module="unique")(depths)


@lru_cache
def project_kernel():
    """What `rasterizer.draw` launches over splats; Warp makes its gradient.

    Returns:
        A Warp kernel (out: PROJECTED numbers a splat, rows of splats, world-to-camera rotation, camera's position, (fx,
        fy, cx, cy), the largest tangents at which a splat's shape is still followed). The camera looks along z, y down.
    """
    wp = warp()
    c0, c1, c20, c21, c22 = (wp.constant(value) for value in (C0, C1, *C2))
    low_pass = wp.constant(LOW_PASS)

    @wp.func
    def coefficient(rows: wp.array2d(dtype=wp.float32), i: wp.int32, k: wp.int32):
        return wp.vec3(rows[i, 11 + 3 * k], rows[i, 12 + 3 * k], rows[i, 13 + 3 * k])

    @wp.func
    def color_of(rows: wp.array2d(dtype=wp.float32), i: wp.int32, direction: wp.vec3):
        x, y, z = direction[0], direction[1], direction[2]
        color = coefficient(rows, i, 0) * c0 + wp.vec3(0.5, 0.5, 0.5)
        color = color - coefficient(rows, i, 1) * (c1 * y)
        color = color + coefficient(rows, i, 2) * (c1 * z)
        color = color - coefficient(rows, i, 3) * (c1 * x)
        color = color + coefficient(rows, i, 4) * (c20 * x * y)
        color = color - coefficient(rows, i, 5) * (c20 * y * z)
        color = color + coefficient(rows, i, 6) * (c21 * (2.0 * z * z - x * x - y * y))
        color = color - coefficient(rows, i, 7) * (c20 * x * z)
        color = color + coefficient(rows, i, 8) * (c22 * (x * x - y * y))
        return wp.vec3(wp.max(color[0], 0.0), wp.max(color[1], 0.0), wp.max(color[2], 0.0))

    @wp.func
    def axes_of(rows: wp.array2d(dtype=wp.float32), i: wp.int32):
        """Rotation times scales: its square is the covariance."""
        length = wp.sqrt(
            rows[i, 6] * rows[i, 6] + rows[i, 7] * rows[i, 7] + rows[i, 8] * rows[i, 8] + rows[i, 9] * rows[i, 9]
        )
        w, x, y, z = rows[i, 6] / length, rows[i, 7] / length, rows[i, 8] / length, rows[i, 9] / length
        rotation = wp.mat33(
            1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
            2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
            2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
        )  # fmt: skip
        return rotation * wp.diag(wp.vec3(wp.exp(rows[i, 3]), wp.exp(rows[i, 4]), wp.exp(rows[i, 5])))

    def project(
        flat: wp.array2d(dtype=wp.float32),
        rows: wp.array2d(dtype=wp.float32),
        view: wp.mat33,
        position: wp.vec3,
        lens: wp.vec4,
        limits: wp.vec2,
    ):
        i = wp.tid()
        away = wp.vec3(rows[i, 0], rows[i, 1], rows[i, 2]) - position
        place = view * away
        z = place[2]
        across = wp.clamp(place[0] / z, -limits[0], limits[0])
        down = wp.clamp(place[1] / z, -limits[1], limits[1])
        axes = view * axes_of(rows, i)
        # The rows of the picture's Jacobian times the axes.
        to_x = (lens[0] / z) * wp.vec3(
            axes[0, 0] - across * axes[2, 0], axes[0, 1] - across * axes[2, 1], axes[0, 2] - across * axes[2, 2]
        )
        to_y = (lens[1] / z) * wp.vec3(
            axes[1, 0] - down * axes[2, 0], axes[1, 1] - down * axes[2, 1], axes[1, 2] - down * axes[2, 2]
        )
        xx, xy, yy = wp.dot(to_x, to_x) + low_pass, wp.dot(to_x, to_y), wp.dot(to_y, to_y) + low_pass
        determinant = xx * yy - xy * xy
        color = color_of(rows, i, wp.normalize(away))
        flat[i, 0] = lens[0] * place[0] / z + lens[2]
        flat[i, 1] = lens[1] * place[1] / z + lens[3]
        flat[i, 2] = yy / determinant
        flat[i, 3] = -xy / determinant
        flat[i, 4] = xx / determinant
        flat[i, 5] = 1.0 / (1.0 + wp.exp(-rows[i, 10]))
        flat[i, 6] = color[0]
        flat[i, 7] = color[1]
        flat[i, 8] = color[2]
        flat[i, 9] = z

    return wp.kernel(enable_backward=True, module="unique")(project)


@lru_cache
def pairs_kernel():
    """What `rasterizer.draw` launches over splats to list the tiles that each reaches.

    Returns:
        A Warp kernel (boxes of tiles (n, 4): first and behind-last column and row; where each splat's pairs begin;
        tiles in a row; the first splat's number; out: the pairs' tiles and splats).
    """
    wp = warp()

    def pairs(
        boxes: wp.array2d(dtype=wp.int32),
        begins: wp.array(dtype=wp.int32),
        columns: wp.int32,
        tiles: wp.array(dtype=wp.int32),
        splats: wp.array(dtype=wp.int32),
    ):
        i = wp.tid()
        at = begins[i]
        for row in range(boxes[i, 1], boxes[i, 3]):
            for column in range(boxes[i, 0], boxes[i, 2]):
                tiles[at] = row * columns + column
                splats[at] = i
                at += 1

    return wp.kernel(enable_backward=False, module="unique")(pairs)


@lru_cache
def composite_kernels(tile_side: int):
    """What `rasterizer.draw` launches over tiles.

    Args:
        tile_side: Of a tile, in pixels.

    Returns:
        Warp kernels: forward (picture without background, and the transmittance that is left, below 0 while no more
        splats are taken), backward (each pair's gradients of the numbers of `project_kernel` without the depth, where
        the pair stood before it was sorted).
    """
    wp = warp()
    side = wp.constant(tile_side)
    most, least, end = wp.constant(MOST_ALPHA), wp.constant(LEAST_ALPHA), wp.constant(LEAST_TRANSMITTANCE)

    def forward(
        order: wp.array(dtype=wp.int32),  # of tiles: what this launch takes of them
        flat: wp.array2d(dtype=wp.float32),
        boxes: wp.array2d(dtype=wp.int32),
        begins: wp.array(dtype=wp.int32),
        splats: wp.array(dtype=wp.int32),
        columns: wp.int32,
        picture: wp.array3d(dtype=wp.float32),
        transmittance: wp.array2d(dtype=wp.float32),
    ):
        tile = order[wp.tid()]
        left, top = (tile % columns) * side, (tile / columns) * side
        right, bottom = wp.min(left + side, picture.shape[1]), wp.min(top + side, picture.shape[0])
        open_pixels = (right - left) * (bottom - top)
        for k in range(begins[tile], begins[tile + 1]):
            if open_pixels == 0:
                break
            s = splats[k]
            u, v, a, b, c, opacity = flat[s, 0], flat[s, 1], flat[s, 2], flat[s, 3], flat[s, 4], flat[s, 5]
            weakest = wp.log(least / opacity)
            for y in range(wp.max(top, boxes[s, 1]), wp.min(bottom, boxes[s, 3])):
                dy = wp.float32(y) + 0.5 - v
                for x in range(wp.max(left, boxes[s, 0]), wp.min(right, boxes[s, 2])):
                    before = transmittance[y, x]
                    dx = wp.float32(x) + 0.5 - u
                    power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
                    if before > 0.0 and power >= weakest and power <= 0.0:
                        alpha = wp.min(most, opacity * wp.exp(power))
                        after = before * (1.0 - alpha)
                        if after < end:
                            transmittance[y, x] = -before
                            open_pixels -= 1
                        else:
                            weight = before * alpha
                            picture[y, x, 0] += weight * flat[s, 6]
                            picture[y, x, 1] += weight * flat[s, 7]
                            picture[y, x, 2] += weight * flat[s, 8]
                            transmittance[y, x] = after

    def backward(
        order: wp.array(dtype=wp.int32),
        flat: wp.array2d(dtype=wp.float32),
        boxes: wp.array2d(dtype=wp.int32),
        begins: wp.array(dtype=wp.int32),
        splats: wp.array(dtype=wp.int32),
        unsorted: wp.array(dtype=wp.int32),
        columns: wp.int32,
        gradient: wp.array3d(dtype=wp.float32),
        behind: wp.array2d(dtype=wp.float32),  # what all splats from here on, and the background, are worth
        transmittance: wp.array2d(dtype=wp.float32),
        gradients: wp.array2d(dtype=wp.float32),
    ):
        tile = order[wp.tid()]
        left, top = (tile % columns) * side, (tile / columns) * side
        right, bottom = wp.min(left + side, gradient.shape[1]), wp.min(top + side, gradient.shape[0])
        open_pixels = (right - left) * (bottom - top)
        for k in range(begins[tile], begins[tile + 1]):
            if open_pixels == 0:
                break
            s = splats[k]
            u, v, a, b, c, opacity = flat[s, 0], flat[s, 1], flat[s, 2], flat[s, 3], flat[s, 4], flat[s, 5]
            red, green, blue = flat[s, 6], flat[s, 7], flat[s, 8]
            weakest = wp.log(least / opacity)
            du, dv, d_opacity = wp.float32(0.0), wp.float32(0.0), wp.float32(0.0)
            da, db, dc = wp.float32(0.0), wp.float32(0.0), wp.float32(0.0)
            d_red, d_green, d_blue = wp.float32(0.0), wp.float32(0.0), wp.float32(0.0)
            for y in range(wp.max(top, boxes[s, 1]), wp.min(bottom, boxes[s, 3])):
                dy = wp.float32(y) + 0.5 - v
                for x in range(wp.max(left, boxes[s, 0]), wp.min(right, boxes[s, 2])):
                    before = transmittance[y, x]
                    dx = wp.float32(x) + 0.5 - u
                    power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
                    if before > 0.0 and power >= weakest and power <= 0.0:
                        falloff = wp.exp(power)
                        alpha = wp.min(most, opacity * falloff)
                        after = before * (1.0 - alpha)
                        if after < end:
                            transmittance[y, x] = -before
                            open_pixels -= 1
                        else:
                            weight = before * alpha
                            gr, gg, gb = gradient[y, x, 0], gradient[y, x, 1], gradient[y, x, 2]
                            worth = gr * red + gg * green + gb * blue
                            rest = behind[y, x] - weight * worth
                            behind[y, x] = rest
                            transmittance[y, x] = after
                            d_red += weight * gr
                            d_green += weight * gg
                            d_blue += weight * gb
                            if opacity * falloff < most:
                                d_alpha = before * worth - rest / (1.0 - alpha)
                                d_opacity += d_alpha * falloff
                                d_power = d_alpha * alpha
                                du += d_power * (a * dx + b * dy)
                                dv += d_power * (c * dy + b * dx)
                                da -= d_power * 0.5 * dx * dx
                                db -= d_power * dx * dy
                                dc -= d_power * 0.5 * dy * dy
            at = unsorted[k]
            gradients[at, 0] = du
            gradients[at, 1] = dv
            gradients[at, 2] = da
            gradients[at, 3] = db
            gradients[at, 4] = dc
            gradients[at, 5] = d_opacity
            gradients[at, 6] = d_red
            gradients[at, 7] = d_green
            gradients[at, 8] = d_blue

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(forward), unique(backward)


@lru_cache
def sum_kernel():
    """What `Drawn.gradients` launches over splats: the sums of their pairs' gradients.

    Returns:
        A Warp kernel (out: (n, PROJECTED), the depth's staying 0, where each splat's pairs begin and end (n,), the
        pairs' gradients).
    """
    wp = warp()

    def add(
        sums: wp.array2d(dtype=wp.float32),
        begins: wp.array(dtype=wp.int32),
        ends: wp.array(dtype=wp.int32),
        gradients: wp.array2d(dtype=wp.float32),
    ):
        i = wp.tid()
        for number in range(9):
            total = wp.float32(0.0)
            for k in range(begins[i], ends[i]):
                total += gradients[k, number]
            sums[i, number] = total

    return wp.kernel(enable_backward=False, module="unique")(add)


@lru_cache
def adam_kernel(columns: int):
    """What `refinement.Adam` launches over the splats that a picture shows.

    Args:
        columns: Of a splat's row.

    Returns:
        A Warp kernel (their numbers, gradients (n, columns), all rows, first and second moments and how often a row
        was moved, learning rates (columns,), each row's size, which multiplies the rates of its mean, the moments'
        decays).
    """
    wp = warp()
    count = wp.constant(columns)

    def adam(
        numbers: wp.array(dtype=wp.int32),
        gradients: wp.array2d(dtype=wp.float32),
        rows: wp.array2d(dtype=wp.float32),
        first: wp.array2d(dtype=wp.float32),
        second: wp.array2d(dtype=wp.float32),
        moved: wp.array(dtype=wp.int32),
        rates: wp.array(dtype=wp.float32),
        sizes: wp.array(dtype=wp.float32),
        decay: wp.float32,
        decay_squared: wp.float32,
    ):
        i = wp.tid()
        row = numbers[i]
        step = moved[row] + 1
        moved[row] = step
        grown = 1.0 - wp.pow(decay, wp.float32(step))
        grown_squared = 1.0 - wp.pow(decay_squared, wp.float32(step))
        for c in range(count):
            g = gradients[i, c]
            m = decay * first[row, c] + (1.0 - decay) * g
            s = decay_squared * second[row, c] + (1.0 - decay_squared) * g * g
            first[row, c] = m
            second[row, c] = s
            rate = rates[c]
            if c < 3:
                rate = rate * sizes[row]
            rows[row, c] -= rate * (m / grown) / (wp.sqrt(s / grown_squared) + 1e-15)

    return wp.kernel(enable_backward=False, module="unique")(adam)
