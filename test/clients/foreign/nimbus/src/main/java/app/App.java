package app;

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jwt.JWTParser;
import com.nimbusds.oauth2.sdk.AuthorizationCode;
import com.nimbusds.oauth2.sdk.AuthorizationCodeGrant;
import com.nimbusds.oauth2.sdk.AuthorizationGrant;
import com.nimbusds.oauth2.sdk.AuthorizationResponse;
import com.nimbusds.oauth2.sdk.RefreshTokenGrant;
import com.nimbusds.oauth2.sdk.ResponseType;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.auth.ClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.State;
import com.nimbusds.oauth2.sdk.pkce.CodeChallengeMethod;
import com.nimbusds.oauth2.sdk.pkce.CodeVerifier;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import com.nimbusds.openid.connect.sdk.AuthenticationRequest;
import com.nimbusds.openid.connect.sdk.LogoutRequest;
import com.nimbusds.openid.connect.sdk.Nonce;
import com.nimbusds.openid.connect.sdk.OIDCTokenResponse;
import com.nimbusds.openid.connect.sdk.OIDCTokenResponseParser;
import com.nimbusds.openid.connect.sdk.UserInfoRequest;
import com.nimbusds.openid.connect.sdk.UserInfoResponse;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import com.nimbusds.openid.connect.sdk.validators.IDTokenValidator;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;

public class App {
  static final String base = System.getenv("BASE");
  static final ClientID client = new ClientID(System.getenv("CLIENT_ID"));
  static final ClientAuthentication authentication =
      new ClientSecretBasic(client, new Secret(System.getenv("CLIENT_SECRET")));
  static final State state = new State();
  static final Nonce nonce = new Nonce();
  static final CodeVerifier verifier = new CodeVerifier();
  static OIDCProviderMetadata server;
  static DPoPProofFactory proofs;
  static OIDCTokens tokens;
  static String idToken;

  interface Page {
    void answer(HttpExchange exchange) throws Exception;
  }

  public static void main(String[] args) throws Exception {
    server = OIDCProviderMetadata.resolve(new Issuer(System.getenv("ISSUER")));
    proofs =
        new DefaultDPoPProofFactory(new ECKeyGenerator(Curve.P_256).generate(), JWSAlgorithm.ES256);
    var address = new InetSocketAddress("localhost", Integer.parseInt(System.getenv("PORT")));
    var http = HttpServer.create(address, 0);
    page(http, "/login", exchange -> redirect(exchange, authorization()));
    page(http, "/callback", App::callback);
    page(http, "/user", exchange -> json(exchange, userInfo()));
    page(http, "/refresh", App::refresh);
    page(http, "/logout", exchange -> redirect(exchange, logout()));
    page(http, "/bye", exchange -> json(exchange, "{}"));
    http.start();
  }

  static URI authorization() {
    var scope = new Scope("openid", "email");
    var callback = URI.create(base + "/callback");
    return new AuthenticationRequest.Builder(ResponseType.CODE, scope, client, callback)
        .endpointURI(server.getAuthorizationEndpointURI())
        .state(state)
        .nonce(nonce)
        .codeChallenge(verifier, CodeChallengeMethod.S256)
        .build()
        .toURI();
  }

  static void callback(HttpExchange exchange) throws Exception {
    var uri = URI.create(base + exchange.getRequestURI());
    var response = AuthorizationResponse.parse(uri).toSuccessResponse();
    if (!state.equals(response.getState())) throw new Exception("another state");
    AuthorizationCode code = response.getAuthorizationCode();
    tokens = request(new AuthorizationCodeGrant(code, URI.create(base + "/callback"), verifier));
    idToken = tokens.getIDTokenString();
    new IDTokenValidator(
            server.getIssuer(), client, JWSAlgorithm.RS256, server.getJWKSetURI().toURL())
        .validate(tokens.getIDToken(), nonce);
    redirect(exchange, URI.create(base + "/user"));
  }

  static OIDCTokens request(AuthorizationGrant grant) throws Exception {
    var uri = server.getTokenEndpointURI();
    var request = new TokenRequest.Builder(uri, authentication, grant).build().toHTTPRequest();
    request.setDPoP(proofs.createDPoPJWT(request.getMethod().name(), request.getURI()));
    var response = OIDCTokenResponseParser.parse(request.send());
    if (!response.indicatesSuccess()) throw new Exception(response.toErrorResponse().toString());
    return ((OIDCTokenResponse) response.toSuccessResponse())
        .getOIDCTokens();
  }

  static String userInfo() throws Exception {
    DPoPAccessToken token = tokens.getDPoPAccessToken();
    var request = new UserInfoRequest(server.getUserInfoEndpointURI(), token).toHTTPRequest();
    request.setDPoP(
        proofs.createDPoPJWT(request.getMethod().name(), request.getURI(), token));
    var response = UserInfoResponse.parse(request.send());
    if (!response.indicatesSuccess()) throw new Exception("userinfo failed");
    return response.toSuccessResponse().getUserInfo().toJSONString();
  }

  static void refresh(HttpExchange exchange) throws Exception {
    tokens = request(new RefreshTokenGrant(tokens.getRefreshToken()));
    json(exchange, "{\"access_token\":\"" + tokens.getDPoPAccessToken().getValue() + "\"}");
  }

  static URI logout() throws Exception {
    var hint = JWTParser.parse(idToken);
    return new LogoutRequest(
            server.getEndSessionEndpointURI(), hint, URI.create(base + "/bye"), state)
        .toURI();
  }

  static void page(HttpServer http, String path, Page page) {
    http.createContext(
        path,
        exchange -> {
          try {
            page.answer(exchange);
          } catch (Exception error) {
            error.printStackTrace();
            exchange.sendResponseHeaders(500, -1);
          } finally {
            exchange.close();
          }
        });
  }

  static void redirect(HttpExchange exchange, URI uri) throws Exception {
    exchange.getResponseHeaders().set("location", uri.toString());
    exchange.sendResponseHeaders(302, -1);
  }

  static void json(HttpExchange exchange, String body) throws Exception {
    exchange.getResponseHeaders().set("content-type", "application/json");
    exchange.sendResponseHeaders(200, body.getBytes().length);
    exchange.getResponseBody().write(body.getBytes());
  }
}
