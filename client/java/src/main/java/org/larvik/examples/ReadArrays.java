package org.larvik.examples;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.zip.CRC32;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.Criteria;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.grpc.CredentialCallOption;
import org.apache.arrow.flight.auth2.BearerCredentialWriter;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.BaseFixedWidthVector;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.types.pojo.Field;

/**
 * Lists the arrays of a Larvik server, reads the first one as tensors and reads the table of channels.
 *
 * <p>Arrow's own Flight client and a token are all it takes: {@code LARVIK_TOKEN=... java -jar
 * larvik-examples.jar grpc://localhost:7411}.
 */
public final class ReadArrays {
  private final FlightClient client;
  private final CallOption bearer;

  private ReadArrays(FlightClient client, String token) {
    this.client = client;
    this.bearer = new CredentialCallOption(new BearerCredentialWriter(token));
  }

  /** Takes the Flight address; the token is in LARVIK_TOKEN. */
  public static void main(String[] arguments) throws Exception {
    String token = System.getenv("LARVIK_TOKEN");
    if (arguments.length != 1 || token == null) {
      System.err.println("LARVIK_TOKEN=... java -jar larvik-examples.jar grpc://localhost:7411");
      System.exit(2);
    }
    try (BufferAllocator allocator = new RootAllocator();
        FlightClient client = FlightClient.builder(allocator, new Location(arguments[0])).build()) {
      ReadArrays example = new ReadArrays(client, token);
      List<FlightInfo> arrays = example.list("arrays");
      for (FlightInfo info : arrays) {
        Map<String, String> about = info.getSchema().getCustomMetadata();
        System.out.printf(
            "array %s %s (%s) %s%n",
            info.getDescriptor().getPath().get(1),
            about.get("larvik.dtype"),
            about.get("larvik.dims"),
            about.get("larvik.shape"));
      }
      if (!arrays.isEmpty()) {
        example.readArray(arrays.get(0).getDescriptor());
      }
      example.readTable(FlightDescriptor.path("models", "Channel"));
    }
  }

  private List<FlightInfo> list(String kind) {
    List<FlightInfo> found = new ArrayList<>();
    client.listFlights(new Criteria(kind.getBytes(java.nio.charset.StandardCharsets.UTF_8)), bearer).forEach(found::add);
    return found;
  }

  /** Reads a whole array into one byte array and prints its checksum. */
  private void readArray(FlightDescriptor descriptor) throws Exception {
    FlightInfo info = client.getInfo(descriptor, bearer);
    byte[] pixels = null;
    int itemBytes = 0;
    try (FlightStream stream = client.getStream(info.getEndpoints().get(0).getTicket(), bearer)) {
      int[] shape = Tensors.parseShape(stream.getSchema().getCustomMetadata().get("larvik.shape"));
      int[] tensor = tensorShape(stream.getSchema().findField("data"));
      VectorSchemaRoot root = stream.getRoot();
      while (stream.next()) {
        FixedSizeListVector data = (FixedSizeListVector) storage(root.getVector("data"));
        BaseFixedWidthVector elements = (BaseFixedWidthVector) data.getDataVector();
        BigIntVector starts = (BigIntVector) ((FixedSizeListVector) root.getVector("start")).getDataVector();
        itemBytes = elements.getTypeWidth();
        if (pixels == null) {
          pixels = new byte[Tensors.size(shape) * itemBytes];
        }
        byte[] batch = new byte[elements.getValueCount() * itemBytes];
        elements.getDataBuffer().getBytes(0, batch);
        for (int row = 0; row < root.getRowCount(); row++) {
          long[] start = new long[tensor.length];
          for (int dim = 0; dim < tensor.length; dim++) {
            start[dim] = starts.get(row * tensor.length + dim);
          }
          int from = row * Tensors.size(tensor) * itemBytes;
          Tensors.place(batch, from, tensor, pixels, shape, start, itemBytes);
        }
      }
    }
    CRC32 checksum = new CRC32();
    checksum.update(pixels == null ? new byte[0] : pixels);
    System.out.printf(
        Locale.ROOT, "read %s %d bytes crc32 %08x%n", descriptor.getPath().get(1), pixels == null ? 0 : pixels.length, checksum.getValue());
  }

  /** Reads every row of a model and prints the columns and the first rows. */
  private void readTable(FlightDescriptor descriptor) throws Exception {
    FlightInfo info = client.getInfo(descriptor, bearer);
    long rows = 0;
    try (FlightStream stream = client.getStream(info.getEndpoints().get(0).getTicket(), bearer)) {
      List<String> names = stream.getSchema().getFields().stream().map(Field::getName).toList();
      System.out.printf("table %s columns %s%n", descriptor.getPath().get(1), String.join(",", names));
      while (stream.next()) {
        VectorSchemaRoot root = stream.getRoot();
        for (int row = 0; row < root.getRowCount() && rows + row < 5; row++) {
          System.out.printf("row %s %s%n", root.getVector("Name").getObject(row), root.getVector("EmissionWavelength").getObject(row));
        }
        rows += root.getRowCount();
      }
    }
    System.out.printf("rows %d%n", rows);
  }

  /** The extension type says how a tensor's elements lie; readers without it see a fixed-size list. */
  private static int[] tensorShape(Field field) {
    String metadata = field.getMetadata().get("ARROW:extension:metadata");
    return Tensors.parseShape(metadata.replaceAll(".*\"shape\"\\s*:\\s*(\\[[^\\]]*\\]).*", "$1"));
  }

  private static FieldVector storage(FieldVector vector) {
    return vector instanceof org.apache.arrow.vector.ExtensionTypeVector<?> extension
        ? (FieldVector) extension.getUnderlyingVector()
        : vector;
  }
}
