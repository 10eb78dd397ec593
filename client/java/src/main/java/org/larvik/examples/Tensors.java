package org.larvik.examples;

import java.util.Arrays;

/** Places tensors into the array that they are parts of. */
public final class Tensors {
  private Tensors() {}

  /**
   * Copies one tensor to where it belongs.
   *
   * @param source bytes of tensors, in C order
   * @param from offset of the tensor's first byte in {@code source}
   * @param tensor elements of the tensor per dim
   * @param target bytes of the whole array, in C order
   * @param whole elements of the whole array per dim
   * @param start first element of the tensor in the whole array, per dim
   * @param itemBytes bytes of one element
   */
  public static void place(
      byte[] source, int from, int[] tensor, byte[] target, int[] whole, long[] start, int itemBytes) {
    if (tensor.length == 0) {
      System.arraycopy(source, from, target, 0, itemBytes);
      return;
    }
    int last = tensor.length - 1;
    int run = tensor[last] * itemBytes;
    int[] index = new int[tensor.length];
    for (int offset = from; ; offset += run) {
      long element = 0;
      for (int dim = 0; dim < tensor.length; dim++) {
        element = element * whole[dim] + start[dim] + index[dim];
      }
      System.arraycopy(source, offset, target, Math.toIntExact(element * itemBytes), run);
      int dim = last - 1;
      while (dim >= 0 && ++index[dim] == tensor[dim]) {
        index[dim--] = 0;
      }
      if (dim < 0) {
        return;
      }
    }
  }

  /** Returns how many elements an array of this shape has. */
  public static int size(int[] shape) {
    return Arrays.stream(shape).reduce(1, Math::multiplyExact);
  }

  /** Returns the numbers of a text such as {@code "2,3,4"} or {@code "[2,3,4]"}; none for an empty one. */
  public static int[] parseShape(String text) {
    String plain = text.replaceAll("[\\[\\]\\s]", "");
    return plain.isEmpty()
        ? new int[0]
        : Arrays.stream(plain.split(",")).mapToInt(Integer::parseInt).toArray();
  }
}
