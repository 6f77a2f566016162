import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpClient.Redirect;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Gets files: each line of the list has where one is to lie and where it may be had, in this order, with tabs between. Run as it is, by
 * the JDK that the kernel runs in, whose certificates and proxies count. What came is checked by whoever called.
 */
class Fetch {
  private static final int AT_ONCE = 4;
  private static final int TOLD_EACH = 10;
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  private static final HttpClient CLIENT =
      HttpClient.newBuilder().followRedirects(Redirect.NORMAL).connectTimeout(PATIENCE).build();

  public static void main(String[] arguments) throws Exception {
    var threads = Executors.newFixedThreadPool(AT_ONCE);
    List<Future<String>> all = new ArrayList<>();
    for (var line : Files.readAllLines(Path.of(arguments[0]))) all.add(threads.submit(() -> get(line.split("\t"))));
    var failures = 0;
    var done = 0;
    for (var one : all) {
      var failure = one.get();
      if (failure == null) {
        if (++done % TOLD_EACH == 0 || done == all.size()) System.out.println("got " + done + " of " + all.size() + " jars");
      } else {
        failures++;
        System.err.println(failure);
      }
    }
    System.exit(failures == 0 ? 0 : 1);
  }

  /** Nothing, or why it could not be had. */
  private static String get(String[] asked) {
    var why = "it is nowhere to be had";
    for (var at = 1; at < asked.length; at++) {
      try {
        var said = get(URI.create(asked[at]), Path.of(asked[0]));
        if (said == null) return null;
        why = asked[at] + ": " + said;
      } catch (Exception error) {
        why = asked[at] + ": " + error;
      }
    }
    return why;
  }

  private static String get(URI from, Path to) throws Exception {
    if ("file".equals(from.getScheme())) {
      if (!Files.exists(Path.of(from))) return "there is no such file";
      Files.copy(Path.of(from), to, StandardCopyOption.REPLACE_EXISTING);
      return null;
    }
    var login = from.getRawUserInfo();
    var plain = login == null ? from : URI.create(from.toString().replace(login + "@", ""));
    var request = HttpRequest.newBuilder(plain).timeout(PATIENCE.multipliedBy(10)).header("User-Agent", "nb");
    if (login != null) {
      var basic = Base64.getEncoder().encodeToString(URI.create("x://" + login + "@x").getUserInfo().getBytes("UTF-8"));
      request.header("Authorization", "Basic " + basic);
    }
    HttpResponse<Path> response = CLIENT.send(request.build(), BodyHandlers.ofFile(to));
    return response.statusCode() == 200 ? null : "HTTP " + response.statusCode();
  }
}
