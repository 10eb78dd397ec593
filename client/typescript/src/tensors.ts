// Placing tensors into the array that they are parts of.

/**
 * Copies one tensor to where it belongs.
 *
 * @param source bytes of tensors, in C order
 * @param from offset of the tensor's first byte in `source`
 * @param tensor elements of the tensor per dim
 * @param target bytes of the whole array, in C order
 * @param whole elements of the whole array per dim
 * @param start first element of the tensor in the whole array, per dim
 * @param itemBytes bytes of one element
 */
export function place(
  source: Uint8Array,
  from: number,
  tensor: number[],
  target: Uint8Array,
  whole: number[],
  start: number[],
  itemBytes: number,
): void {
  const run = (tensor.at(-1) ?? 1) * itemBytes;
  const index = tensor.map(() => 0);
  for (let offset = from; ; offset += run) {
    const element = tensor.reduce((sum, _, dim) => sum * whole[dim] + start[dim] + index[dim], 0);
    target.set(source.subarray(offset, offset + run), element * itemBytes);
    let dim = tensor.length - 2;
    while (dim >= 0 && ++index[dim] === tensor[dim]) {
      index[dim--] = 0;
    }
    if (dim < 0) {
      return;
    }
  }
}

/** Returns how many elements an array of this shape has. */
export function sizeOf(shape: number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
