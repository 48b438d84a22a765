// Encodes label maps as 8-bit grey PNG files of class ids, as `fastscnn segment` does. A canvas can only write colours.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/**
 * Encode a label map as a PNG file.
 * @param {Uint8Array} labels rows of pixels.
 * @param {[number, number]} size height and width.
 * @returns {Promise<Blob>}
 */
export async function png(labels, [height, width]) {
  const lines = new Uint8Array(height * (width + 1)); // each line starts with its filter type: 0, none
  for (let y = 0; y < height; y++) lines.set(labels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([lines]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bit depth; the zeros after it: grey, deflate, standard filters, not interlaced
  const parts = [
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk("IEND", new Uint8Array()),
  ];
  return new Blob([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...parts], { type: "image/png" });
}

function chunk(name, data) {
  const bytes = new Uint8Array(data.length + 12);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, data.length + 8)) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(data.length + 8, ~crc);
  return bytes;
}
