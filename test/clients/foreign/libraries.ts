/**
 * Every library that `npm run clients` installs and drives, with its exact version. The table
 * "Settings for your library" in docs/connect-a-relying-party.md is made from this one.
 */
import type { Paths } from './visitor.ts'

/** How the tokens of a library are bound. */
export type Tokens = 'DPoP' | 'mTLS' | 'bearer'

export interface Library {
  /** What `npm run clients -- NAME` runs. */
  readonly name: string
  /** Of the folder beside this file that has its program. */
  readonly folder: string
  /** What the table calls it. */
  readonly title: string
  /** Where its packages come from. */
  readonly registry: 'npm' | 'pip' | 'go' | 'debian' | 'maven'
  /** With exact versions. The first one is the library. */
  readonly packages: Readonly<Record<string, string>>
  readonly tokens: Tokens
  /** Options of `holdfast clients add`; BASE stands for the origin of the application. */
  readonly register: readonly string[]
  /** What its user must set, for the table. */
  readonly settings: string
  readonly paths: Paths
  /** The path of an API that accepts tokens of the server with the scope `read`, if it has one. */
  readonly api?: string
  /** Whether it runs in a browser, and needs a real one. */
  readonly inBrowser?: true
}

const express = { express: '5.3.0' }
const ownPages: Paths = { login: '/login', user: '/user', refresh: '/refresh', logout: '/logout' }
const signInOnly: Paths = { ...ownPages, refresh: undefined, logout: undefined }
const callback = ['--redirect-uri', 'BASE/callback']
const goodbye = ['--post-logout-redirect-uri', 'BASE/bye']
const bearer = ['--binding', 'bearer']

export const libraries: readonly Library[] = [
  {
    name: 'openid-client',
    folder: 'openid-client',
    title: 'openid-client',
    registry: 'npm',
    packages: { 'openid-client': '6.9.0', undici: '7.30.2', ...express },
    tokens: 'DPoP',
    register: [...callback, ...goodbye],
    settings: '`getDPoPHandle()` in the options of each call',
    paths: ownPages,
  },
  {
    name: 'openid-client-mtls',
    folder: 'openid-client',
    title: 'openid-client',
    registry: 'npm',
    packages: { 'openid-client': '6.9.0', undici: '7.30.2', ...express },
    tokens: 'mTLS',
    register: [
      ...[...callback, ...goodbye],
      ...['--auth', 'self_signed_tls_client_auth', '--binding', 'mtls', '--jwks', 'jwks.json'],
    ],
    settings:
      '`use_mtls_endpoint_aliases`, `TlsClientAuth()` and a `customFetch` with the certificate',
    paths: ownPages,
  },
  {
    name: 'oauth4webapi',
    folder: 'oauth4webapi',
    title: 'oauth4webapi',
    registry: 'npm',
    packages: { oauth4webapi: '3.8.8', ...express },
    tokens: 'DPoP',
    register: [...callback, ...goodbye],
    settings:
      '`DPoP(client, keyPair)` in the options of each request; repeat after `isDPoPNonceError()`',
    paths: ownPages,
  },
  {
    name: 'oidc-client-ts',
    folder: 'oidc-client-ts',
    title: 'oidc-client-ts',
    registry: 'npm',
    packages: { 'oidc-client-ts': '3.5.0', ...express },
    tokens: 'DPoP',
    register: [...callback, ...goodbye, '--auth', 'none'],
    settings: '`dpop: { store: new IndexedDbDPoPStore(), bind_authorization_code: true }`',
    paths: ownPages,
    inBrowser: true,
  },
  {
    name: 'auth.js',
    folder: 'auth.js',
    title: 'Auth.js',
    registry: 'npm',
    packages: { '@auth/express': '0.12.3', ...express },
    tokens: 'bearer',
    register: ['--redirect-uri', 'BASE/auth/callback/holdfast', ...bearer],
    settings: "`checks: ['pkce', 'state']`; `idToken: false` for the email address and the name",
    paths: signInOnly,
  },
  {
    name: 'better-auth',
    folder: 'better-auth',
    title: 'better-auth (generic OAuth)',
    registry: 'npm',
    packages: { 'better-auth': '1.7.25', ...express },
    tokens: 'bearer',
    register: ['--redirect-uri', 'BASE/api/auth/callback/holdfast', ...goodbye, ...bearer],
    settings: '`pkce: true`',
    paths: ownPages,
  },
  {
    name: 'express-openid-connect',
    folder: 'express-openid-connect',
    title: 'express-openid-connect',
    registry: 'npm',
    packages: { 'express-openid-connect': '3.4.0', ...express },
    tokens: 'bearer',
    register: [...callback, '--post-logout-redirect-uri', 'BASE', ...bearer],
    settings: "`authorizationParams: { response_type: 'code' }`; `idpLogout: true`",
    paths: ownPages,
  },
  {
    name: 'passport-openidconnect',
    folder: 'passport-openidconnect',
    title: 'passport-openidconnect',
    registry: 'npm',
    packages: {
      'passport-openidconnect': '0.1.2',
      passport: '0.7.0',
      'express-session': '1.19.0',
      ...express,
    },
    tokens: 'bearer',
    register: [...callback, ...bearer, '--without-pkce'],
    settings: '`nonce: true` (it has no PKCE); `skipUserProfile: false` for the email address',
    paths: signInOnly,
  },
  {
    name: 'authlib',
    folder: 'authlib',
    title: 'Authlib',
    registry: 'pip',
    packages: { Authlib: '1.9.6', Flask: '3.1.3', requests: '2.34.2' },
    tokens: 'bearer',
    register: [...callback, ...goodbye, ...bearer],
    settings: "`client_kwargs={'code_challenge_method': 'S256'}`",
    paths: ownPages,
  },
  {
    name: 'requests-oauthlib',
    folder: 'requests-oauthlib',
    title: 'requests-oauthlib',
    registry: 'pip',
    packages: { 'requests-oauthlib': '2.0.0', Flask: '3.1.3', requests: '2.34.2' },
    tokens: 'bearer',
    register: [...callback, ...bearer],
    settings: "`OAuth2Session(…, pkce='S256')`",
    paths: { ...ownPages, logout: undefined },
  },
  {
    name: 'go-oidc',
    folder: 'go-oidc',
    title: 'go-oidc with golang.org/x/oauth2',
    registry: 'go',
    packages: { 'github.com/coreos/go-oidc/v3': 'v3.21.0' },
    tokens: 'bearer',
    register: [...callback, ...goodbye, ...bearer],
    settings: '`oauth2.S256ChallengeOption(verifier)` and `oauth2.VerifierOption(verifier)`',
    paths: ownPages,
  },
  {
    name: 'oauth2-proxy',
    folder: 'oauth2-proxy',
    title: 'oauth2-proxy',
    registry: 'go',
    packages: { 'github.com/oauth2-proxy/oauth2-proxy/v7': 'v7.15.6' },
    tokens: 'bearer',
    register: ['--redirect-uri', 'BASE/oauth2/callback', ...bearer],
    settings: '`--provider=oidc --code-challenge-method=S256`; accounts with `--email-verified`',
    paths: {
      login: '/oauth2/start?rd=/',
      user: '/oauth2/userinfo',
      refresh: '/',
      logout: undefined,
    },
  },
  {
    name: 'mod_auth_openidc',
    folder: 'mod_auth_openidc',
    title: 'mod_auth_openidc',
    registry: 'debian',
    packages: { 'libapache2-mod-auth-openidc': '2.4.12.3', apache2: '2.4' },
    tokens: 'bearer',
    register: [...callback, '--post-logout-redirect-uri', 'BASE/bye.json', ...bearer],
    settings: '`OIDCPKCEMethod S256` (2.4.16 and later have `OIDCDPoPMode`)',
    paths: {
      login: '/private/index.json',
      user: '/callback?info=json',
      refresh: '/callback?info=json&access_token_refresh_interval=0',
      logout: '/callback?logout=BASE/bye.json',
    },
    inBrowser: true,
  },
  {
    name: 'nimbus',
    folder: 'nimbus',
    title: 'Nimbus OAuth 2.0 SDK',
    registry: 'maven',
    packages: { 'com.nimbusds:oauth2-oidc-sdk': '11.26.1' },
    tokens: 'DPoP',
    register: [...callback, ...goodbye],
    settings: '`DefaultDPoPProofFactory`; `setDPoP()` of each HTTP request',
    paths: ownPages,
  },
  {
    name: 'spring',
    folder: 'spring',
    title: 'Spring Boot (client and resource server)',
    registry: 'maven',
    packages: { 'org.springframework.boot:spring-boot-starter-oauth2-client': '4.0.7' },
    tokens: 'bearer',
    register: [...callback, ...goodbye, ...bearer],
    settings:
      '`OAuth2AuthorizationRequestCustomizers.withPkce()`; `resourceserver.jwt.audiences` with the identifier of the API, and a bean `new JwtTypeValidator("at+jwt")`',
    paths: { ...ownPages, login: '/oauth2/authorization/holdfast' },
    api: '/api',
  },
  {
    name: 'quarkus',
    folder: 'quarkus',
    title: 'Quarkus (quarkus-oidc)',
    registry: 'maven',
    packages: { 'io.quarkus:quarkus-oidc': '3.33.2' },
    tokens: 'bearer',
    register: [...callback, ...goodbye, ...bearer],
    settings:
      '`quarkus.oidc.authentication.pkce-required=true`, `…user-info-required=true` for the email address',
    paths: ownPages,
  },
]

/** The version of a library itself. */
export function versionOf({ packages }: Library): string {
  const [version = ''] = Object.values(packages)
  return version
}

/** What is not driven, as rows of the table, with the reason. */
export const untried: readonly (readonly string[])[] = [
  [
    'curl',
    'DPoP',
    '`--grant client_credentials`',
    '[`holdfast proof`](../examples/curl/run.sh)',
    '[by a test](../test/examples.test.ts)',
  ],
  [
    'Grafana',
    'bearer',
    '`--redirect-uri /login/generic_oauth --binding bearer`',
    '`[auth.generic_oauth] use_pkce = true`',
    'no: it is in none of the registries that the runs install from',
  ],
]
