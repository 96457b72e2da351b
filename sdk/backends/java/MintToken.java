// Mints the token of a browser, with java-jwt: who it is, until when, and what it may do.
import com.auth0.jwt.JWT;
import com.auth0.jwt.algorithms.Algorithm;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Map;

class MintToken {
    public static void main(String[] args) throws Exception {
        var secret = Files.readAllBytes(Path.of(System.getenv("TIDEGATE_SECRET_FILE")));
        System.out.println(JWT.create()
            .withSubject("ana")
            .withExpiresAt(Instant.now().plusSeconds(3600))
            .withClaim("permissions", Map.of("subscribe", List.of("orders.>")))
            .sign(Algorithm.HMAC256(secret)));
    }
}
