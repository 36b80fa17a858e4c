package app;

import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.time.Duration;
import java.util.Map;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.core.annotation.Order;
import org.springframework.http.MediaType;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.Authentication;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.client.OAuth2AuthorizeRequest;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClientProviderBuilder;
import org.springframework.security.oauth2.client.oidc.web.logout.OidcClientInitiatedLogoutSuccessHandler;
import org.springframework.security.oauth2.client.registration.ClientRegistrationRepository;
import org.springframework.security.oauth2.client.web.DefaultOAuth2AuthorizationRequestResolver;
import org.springframework.security.oauth2.client.web.DefaultOAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.web.OAuth2AuthorizationRequestCustomizers;
import org.springframework.security.oauth2.client.web.OAuth2AuthorizedClientRepository;
import org.springframework.security.oauth2.core.oidc.user.OidcUser;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtTypeValidator;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.security.web.servlet.util.matcher.PathPatternRequestMatcher;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.servlet.config.annotation.ContentNegotiationConfigurer;
import org.springframework.web.servlet.config.annotation.WebMvcConfigurer;

@SpringBootApplication
@RestController
public class App implements WebMvcConfigurer {
  @Autowired private ObjectProvider<OAuth2AuthorizedClientManager> manager;

  public static void main(String[] args) {
    SpringApplication.run(App.class, args);
  }

  /** Browsers ask for HTML. */
  @Override
  public void configureContentNegotiation(ContentNegotiationConfigurer types) {
    types.ignoreAcceptHeader(true).defaultContentType(MediaType.APPLICATION_JSON);
  }

  @Bean
  @Order(1)
  SecurityFilterChain api(HttpSecurity http) throws Exception {
    return http.securityMatcher("/api")
        .authorizeHttpRequests(requests -> requests.anyRequest().hasAuthority("SCOPE_read"))
        .oauth2ResourceServer(server -> server.jwt(Customizer.withDefaults()))
        .build();
  }

  /** Access tokens are of RFC 9068: the default takes JWTs of the type JWT only. */
  @Bean
  JwtTypeValidator accessTokens() {
    return new JwtTypeValidator("at+jwt");
  }

  @Bean
  SecurityFilterChain web(HttpSecurity http, ClientRegistrationRepository clients) throws Exception {
    var requests = new DefaultOAuth2AuthorizationRequestResolver(clients, "/oauth2/authorization");
    requests.setAuthorizationRequestCustomizer(OAuth2AuthorizationRequestCustomizers.withPkce());
    var signedOut = new OidcClientInitiatedLogoutSuccessHandler(clients);
    signedOut.setPostLogoutRedirectUri("{baseUrl}/bye");
    return http.authorizeHttpRequests(
            rules -> rules.requestMatchers("/bye").permitAll().anyRequest().authenticated())
        .oauth2Login(
            login ->
                login
                    .defaultSuccessUrl("/user")
                    .authorizationEndpoint(endpoint -> endpoint.authorizationRequestResolver(requests))
                    .redirectionEndpoint(endpoint -> endpoint.baseUri("/callback")))
        .logout(
            logout ->
                logout
                    .logoutRequestMatcher(PathPatternRequestMatcher.withDefaults().matcher("/logout"))
                    .logoutSuccessHandler(signedOut))
        .build();
  }

  @Bean
  OAuth2AuthorizedClientManager manager(
      ClientRegistrationRepository clients, OAuth2AuthorizedClientRepository authorized) {
    var manager = new DefaultOAuth2AuthorizedClientManager(clients, authorized);
    // Every token is about to expire, so that it is refreshed.
    manager.setAuthorizedClientProvider(
        OAuth2AuthorizedClientProviderBuilder.builder()
            .refreshToken(refresh -> refresh.clockSkew(Duration.ofDays(1)))
            .build());
    return manager;
  }

  @GetMapping("/user")
  Map<String, Object> user(@AuthenticationPrincipal OidcUser user) {
    return user.getClaims();
  }

  @GetMapping("/refresh")
  Map<String, Object> refresh(
      Authentication person,
      HttpServletRequest request,
      HttpServletResponse response) {
    var wanted =
        OAuth2AuthorizeRequest.withClientRegistrationId("holdfast")
            .principal(person)
            .attribute(HttpServletRequest.class.getName(), request)
            .attribute(HttpServletResponse.class.getName(), response)
            .build();
    return Map.of("access_token", manager.getObject().authorize(wanted).getAccessToken().getTokenValue());
  }

  @GetMapping("/bye")
  Map<String, Object> bye() {
    return Map.of();
  }

  @GetMapping("/api")
  Map<String, Object> api(@AuthenticationPrincipal Jwt token) {
    return Map.of("sub", token.getSubject(), "scope", token.getClaimAsString("scope"));
  }
}
