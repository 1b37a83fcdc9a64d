import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/** A TLS client or server of Java: Tls client|server key=value…, as tls.py. */
public class Tls {
    private static final Map<String, String> OPTIONS = new HashMap<>();
    private static final char[] NO_PASSWORD = "none".toCharArray();

    public static void main(String[] arguments) throws Exception {
        for (int i = 1; i < arguments.length; i++) {
            String[] option = arguments[i].split("=", 2);
            OPTIONS.put(option[0], option[1]);
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys(), trust(), null);
        int port = Integer.parseInt(OPTIONS.get("port"));
        if (arguments[0].equals("client")) {
            request(context, port);
        } else {
            serve(context, port);
        }
    }

    private static void request(SSLContext context, int port) throws Exception {
        try (SSLSocket stream = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", port)) {
            stream.setSoTimeout(5000);
            stream.setEnabledProtocols(protocols());
            SSLParameters parameters = stream.getSSLParameters();
            if (OPTIONS.containsKey("ca")) {
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
            }
            parameters.setServerNames(
                    java.util.List.of(new javax.net.ssl.SNIHostName(OPTIONS.get("name"))));
            stream.setSSLParameters(parameters);
            stream.startHandshake();
            stream.getOutputStream().write(
                    "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".getBytes());
            byte[] answer = new byte[4096];
            int length = stream.getInputStream().read(answer);
            System.out.println(new String(answer, 0, length, StandardCharsets.UTF_8).split("\r\n")[0]);
        }
    }

    private static void serve(SSLContext context, int port) throws Exception {
        SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory()
                .createServerSocket(port, 50, java.net.InetAddress.getByName("127.0.0.1"));
        listener.setEnabledProtocols(protocols());
        listener.setNeedClientAuth(OPTIONS.containsKey("ca"));
        while (true) {
            SSLSocket stream = (SSLSocket) listener.accept();
            Thread thread = new Thread(() -> answer(stream));
            thread.setDaemon(true);
            thread.start();
        }
    }

    private static void answer(SSLSocket stream) {
        try (stream) {
            stream.setSoTimeout(5000);
            if (stream.getInputStream().read(new byte[4096]) > 0) {
                stream.getOutputStream().write(
                        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".getBytes());
            }
        } catch (Exception error) {
            System.err.println(error.getMessage());
        }
    }

    private static String[] protocols() {
        return new String[] {"TLSv" + OPTIONS.get("version")};
    }

    private static KeyManager[] keys() throws Exception {
        if (!OPTIONS.containsKey("cert")) {
            return null;
        }
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        Certificate[] chain = certificates("cert").toArray(new Certificate[0]);
        store.setKeyEntry("own", key(chain[0].getPublicKey().getAlgorithm()), NO_PASSWORD, chain);
        KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        factory.init(store, NO_PASSWORD);
        return factory.getKeyManagers();
    }

    private static PrivateKey key(String algorithm) throws Exception {
        String pem = Files.readString(Path.of(OPTIONS.get("key")));
        byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    private static TrustManager[] trust() throws Exception {
        if (!OPTIONS.containsKey("ca")) {
            return new TrustManager[] {new TrustsAnybody()};
        }
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        int number = 0;
        for (Certificate certificate : certificates("ca")) {
            store.setCertificateEntry("ca" + number++, certificate);
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        return factory.getTrustManagers();
    }

    private static Collection<? extends Certificate> certificates(String name) throws Exception {
        try (InputStream file = new ByteArrayInputStream(Files.readAllBytes(Path.of(OPTIONS.get(name))))) {
            return CertificateFactory.getInstance("X.509").generateCertificates(file);
        }
    }

    private static class TrustsAnybody implements X509TrustManager {
        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) {}

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) {}

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    }
}
