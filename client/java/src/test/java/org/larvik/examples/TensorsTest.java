package org.larvik.examples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class TensorsTest {
  @Test
  void tensorsFillTheArrayThatTheyArePartsOf() {
    int[] whole = {2, 3, 4};
    int[] tensor = {1, 3, 2};
    byte[] target = new byte[24];
    for (int z = 0; z < 2; z++) {
      for (int x = 0; x < 4; x += 2) {
        byte[] source = new byte[6];
        for (int y = 0; y < 3; y++) {
          for (int column = 0; column < 2; column++) {
            source[y * 2 + column] = (byte) (z * 12 + y * 4 + x + column);
          }
        }
        Tensors.place(source, 0, tensor, target, whole, new long[] {z, 0, x}, 1);
      }
    }
    byte[] expected = new byte[24];
    for (int i = 0; i < 24; i++) {
      expected[i] = (byte) i;
    }
    assertArrayEquals(expected, target);
  }

  @Test
  void aTensorThatReachesBackRepeatsItsNeighbours() {
    byte[] target = new byte[3];
    Tensors.place(new byte[] {1, 2}, 0, new int[] {2}, target, new int[] {3}, new long[] {0}, 1);
    Tensors.place(new byte[] {2, 3}, 0, new int[] {2}, target, new int[] {3}, new long[] {1}, 1);
    assertArrayEquals(new byte[] {1, 2, 3}, target);
  }

  @Test
  void elementsOfSeveralBytesStayWhole() {
    byte[] target = new byte[8];
    Tensors.place(
        new byte[] {9, 9, 1, 2, 3, 4}, 2, new int[] {1, 2}, target, new int[] {2, 2}, new long[] {1, 0}, 2);
    assertArrayEquals(new byte[] {0, 0, 0, 0, 1, 2, 3, 4}, target);
  }

  @Test
  void aShapeIsReadWithAndWithoutBrackets() {
    assertArrayEquals(new int[] {2, 3}, Tensors.parseShape("[2, 3]"));
    assertArrayEquals(new int[] {7}, Tensors.parseShape("7"));
    assertArrayEquals(new int[0], Tensors.parseShape(""));
    assertEquals(1, Tensors.size(new int[0]));
  }
}
