// A small Flight client: gRPC messages on one side, Arrow record batches on the other.
import { join } from "node:path";
import { Readable } from "node:stream";
import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";
import { RecordBatch, RecordBatchReader, Schema } from "apache-arrow";

/** What names a flight: a path such as ["arrays", id]. */
export interface Descriptor {
  type: "PATH";
  path: string[];
}

/** What a server tells about a flight. */
export interface FlightInfo {
  schema: Buffer;
  flight_descriptor: Descriptor;
  endpoint: { ticket: { ticket: Buffer } }[];
}

interface FlightData {
  data_header: Buffer;
  data_body: Buffer;
}

const CONTINUATION = 0xffffffff;

/** Reads flights of one server with a bearer token. */
export class FlightClient {
  private readonly stub: any;
  private readonly metadata = new grpc.Metadata();

  /**
   * @param address address as the server prints it: "grpc://host:port" or "grpc+tls://host:port"
   * @param token access token or API key
   */
  constructor(address: string, token: string) {
    const definition = loader.loadSync(join(__dirname, "..", "proto", "Flight.proto"), {
      keepCase: true,
      enums: String,
      longs: String,
    });
    const [scheme, host] = address.split("://");
    const credentials = scheme === "grpc+tls" ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
    const service = (grpc.loadPackageDefinition(definition) as any).arrow.flight.protocol.FlightService;
    this.stub = new service(host, credentials, { "grpc.max_receive_message_length": -1 });
    this.metadata.set("authorization", `Bearer ${token}`);
  }

  /** Yields what the server lists: all, or "arrays", "tables" or "models". */
  async *list(kind: string): AsyncGenerator<FlightInfo> {
    yield* this.stub.listFlights({ expression: Buffer.from(kind) }, this.metadata);
  }

  /** Tells about one flight. */
  info(descriptor: Descriptor): Promise<FlightInfo> {
    return new Promise((resolve, reject) => {
      this.stub.getFlightInfo(descriptor, this.metadata, (error: Error | null, answer: FlightInfo) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  /** Opens the stream of a flight: its schema, then its record batches. */
  async read(info: FlightInfo): Promise<{ schema: Schema; batches: AsyncIterable<RecordBatch> }> {
    const stream = this.stub.doGet(info.endpoint[0].ticket, this.metadata);
    const reader = await RecordBatchReader.from(Readable.from(ipcStream(stream)));
    await reader.open();
    return { schema: reader.schema, batches: reader as AsyncIterable<RecordBatch> };
  }

  /** Closes the connection. */
  close(): void {
    this.stub.close();
  }
}

/** Returns the schema in a FlightInfo, which is framed like the beginning of a stream. */
export async function schemaOf(info: FlightInfo): Promise<Schema> {
  const reader = await RecordBatchReader.from(info.schema);
  await reader.open();
  return reader.schema;
}

/** Frames Flight's messages as the Arrow IPC stream format: length, padded header, body. */
async function* ipcStream(messages: AsyncIterable<FlightData>): AsyncGenerator<Buffer> {
  for await (const message of messages) {
    const length = Math.ceil(message.data_header.length / 8) * 8;
    const frame = Buffer.alloc(8 + length);
    frame.writeUInt32LE(CONTINUATION, 0);
    frame.writeInt32LE(length, 4);
    message.data_header.copy(frame, 8);
    yield frame;
    if (message.data_body && message.data_body.length > 0) {
      yield message.data_body;
    }
  }
}
