import assert from "node:assert/strict";
import { test } from "node:test";
import { place, sizeOf } from "./tensors";

test("tensors fill the array that they are parts of", () => {
  const target = new Uint8Array(24);
  for (let z = 0; z < 2; z++) {
    for (let x = 0; x < 4; x += 2) {
      const source = Uint8Array.from({ length: 6 }, (_, i) => z * 12 + (i >> 1) * 4 + x + (i & 1));
      place(source, 0, [1, 3, 2], target, [2, 3, 4], [z, 0, x], 1);
    }
  }
  assert.deepEqual([...target], [...Array(24).keys()]);
});

test("a tensor that reaches back repeats its neighbours", () => {
  const target = new Uint8Array(3);
  place(Uint8Array.of(1, 2), 0, [2], target, [3], [0], 1);
  place(Uint8Array.of(2, 3), 0, [2], target, [3], [1], 1);
  assert.deepEqual([...target], [1, 2, 3]);
});

test("elements of several bytes stay whole", () => {
  const target = new Uint8Array(8);
  place(Uint8Array.of(9, 9, 1, 2, 3, 4), 2, [1, 2], target, [2, 2], [1, 0], 2);
  assert.deepEqual([...target], [0, 0, 0, 0, 1, 2, 3, 4]);
});

test("a shape without dims has one element", () => {
  assert.equal(sizeOf([]), 1);
  assert.equal(sizeOf([2, 3]), 6);
});
