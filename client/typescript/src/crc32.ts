// CRC-32 as of zip and PNG (Node has one of its own only from version 20.15 on).

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) {
    value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return value >>> 0;
});

/** Returns the checksum of some bytes. */
export function crc32(data: Uint8Array): number {
  let value = 0xffffffff;
  for (let i = 0; i < data.length; i++) {
    value = (value >>> 8) ^ TABLE[(value ^ data[i]) & 0xff];
  }
  return (value ^ 0xffffffff) >>> 0;
}
