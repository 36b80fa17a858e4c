package app;

import io.quarkus.oidc.AccessTokenCredential;
import io.quarkus.oidc.UserInfo;
import io.quarkus.security.Authenticated;
import jakarta.inject.Inject;
import jakarta.ws.rs.GET;
import jakarta.ws.rs.Path;
import jakarta.ws.rs.Produces;

@Path("/")
@Produces({"application/json", "text/html"})
public class App {
  @Inject UserInfo person;
  @Inject AccessTokenCredential token;

  @GET
  @Path("login")
  @Authenticated
  public String login() {
    return user();
  }

  @GET
  @Path("user")
  @Authenticated
  public String user() {
    return person.getJsonObject().toString();
  }

  @GET
  @Path("refresh")
  @Authenticated
  public String refresh() {
    return "{\"access_token\":\"" + token.getToken() + "\"}";
  }

  @GET
  @Path("bye")
  public String bye() {
    return "{}";
  }
}
