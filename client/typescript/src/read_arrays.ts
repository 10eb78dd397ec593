// Lists the arrays of a Larvik server, reads the first one as tensors and reads the table of channels:
//   LARVIK_TOKEN=... node dist/read_arrays.js grpc://localhost:7411
import { crc32 } from "./crc32";
import { Descriptor, FlightClient, FlightInfo, schemaOf } from "./flight";
import { place, sizeOf } from "./tensors";

async function main(): Promise<void> {
  const [address] = process.argv.slice(2);
  const token = process.env.LARVIK_TOKEN;
  if (!address || !token) {
    console.error("LARVIK_TOKEN=... node dist/read_arrays.js grpc://localhost:7411");
    process.exit(2);
  }
  const client = new FlightClient(address, token);
  const arrays: FlightInfo[] = [];
  for await (const info of client.list("arrays")) {
    const about = (await schemaOf(info)).metadata;
    const shape = `(${about.get("larvik.dims")}) ${about.get("larvik.shape")}`;
    console.log(`array ${info.flight_descriptor.path[1]} ${about.get("larvik.dtype")} ${shape}`);
    arrays.push(info);
  }
  if (arrays.length > 0) {
    await readArray(client, arrays[0].flight_descriptor);
  }
  await readTable(client, { type: "PATH", path: ["models", "Channel"] });
  client.close();
}

/** Reads a whole array into one typed buffer and prints its checksum. */
async function readArray(client: FlightClient, descriptor: Descriptor): Promise<void> {
  const { schema, batches } = await client.read(await client.info(descriptor));
  const shape = numbers(schema.metadata.get("larvik.shape"));
  const field = schema.fields.find((one) => one.name === "data")!;
  // The extension type says how a tensor's elements lie; readers without it see a fixed-size list.
  const tensor: number[] = JSON.parse(field.metadata.get("ARROW:extension:metadata")!).shape;
  let pixels = new Uint8Array(0);
  for await (const batch of batches) {
    const elements = batch.getChild("data")!.data[0].children[0].values;
    const starts = batch.getChild("start")!.data[0].children[0].values as BigInt64Array;
    const itemBytes = elements.BYTES_PER_ELEMENT;
    if (pixels.length === 0) {
      pixels = new Uint8Array(sizeOf(shape) * itemBytes);
    }
    const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
    for (let row = 0; row < batch.numRows; row++) {
      const start = tensor.map((_, dim) => Number(starts[row * tensor.length + dim]));
      place(bytes, row * sizeOf(tensor) * itemBytes, tensor, pixels, shape, start, itemBytes);
    }
  }
  console.log(`read ${descriptor.path[1]} ${pixels.length} bytes crc32 ${crc32(pixels).toString(16).padStart(8, "0")}`);
}

/** Reads every row of a model and prints the columns and the first rows. */
async function readTable(client: FlightClient, descriptor: Descriptor): Promise<void> {
  const { schema, batches } = await client.read(await client.info(descriptor));
  console.log(`table ${descriptor.path[1]} columns ${schema.fields.map((field) => field.name).join(",")}`);
  let rows = 0;
  for await (const batch of batches) {
    for (let row = 0; row < batch.numRows && rows + row < 5; row++) {
      const [name, wavelength] = ["Name", "EmissionWavelength"].map((column) => batch.getChild(column)!.get(row));
      console.log(`row ${name} ${Number.isInteger(wavelength) ? wavelength.toFixed(1) : wavelength}`);
    }
    rows += batch.numRows;
  }
  console.log(`rows ${rows}`);
}

function numbers(text: string | undefined): number[] {
  return text ? text.split(",").map(Number) : [];
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
