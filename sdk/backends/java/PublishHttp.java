// Publishes over HTTP. Until the answer is a 2xx, do it again with the same key.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

class PublishHttp {
    public static void main(String[] args) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(System.getenv("TIDEGATE_URL") + "/v1/topics/orders.17/messages"))
            .header("Authorization", "Bearer " + System.getenv("TIDEGATE_KEY"))
            .header("Idempotency-Key", "order-17-paid")
            .timeout(Duration.ofSeconds(20))
            .POST(HttpRequest.BodyPublishers.ofString("{\"id\":17,\"state\":\"paid\"}"))
            .build();
        var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        if (answer.statusCode() / 100 != 2) throw new IllegalStateException(answer.statusCode() + ": " + answer.body());
    }
}
