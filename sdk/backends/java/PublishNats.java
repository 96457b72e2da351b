// Publishes over NATS, with jnats.
import io.nats.client.Nats;
import io.nats.client.impl.Headers;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.HexFormat;

class PublishNats {
    static String random(int bytes) {
        var some = new byte[bytes];
        new SecureRandom().nextBytes(some);
        return HexFormat.of().formatHex(some);
    }

    public static void main(String[] args) throws Exception {
        try (var client = Nats.connect(System.getenv("NATS_URL"))) {
            var headers = new Headers()
                .put("Nats-Msg-Id", "order-17-shipped")
                .put("traceparent", "00-" + random(16) + "-" + random(8) + "-01"); // or that of what you are doing
            client.publish("tidegate.in.orders.17", headers, "{\"id\":17,\"state\":\"shipped\"}".getBytes());
            client.flush(Duration.ofSeconds(5)); // NATS has it
        }
    }
}
