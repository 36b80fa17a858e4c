import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { z } from 'zod'

/** How people may sign in. */
export type SignInPolicy = (typeof signInPolicies)[number]

const signInPolicies = ['passkey', 'passkey-or-password', 'password+second-factor'] as const

/** What a group may need: the ends of authentication contexts `urn:holdfast:acr:…`. */
const groupContexts = [
  'passkey-and-bound-session',
  'bound-session',
  'passkey',
  'password-and-key',
  'password-and-code',
] as const

export interface PasskeysConfig {
  /** What people sign in with. */
  readonly signIn: SignInPolicy
  /** Whether people may type a username in place of their email. */
  readonly usernames: boolean
  /** Names of groups, with the authentication context that sign-ins of their people need. */
  readonly groupAcrs: readonly (readonly [group: string, acr: string])[]
  /** The host name that passkeys are for; undefined for an address, which browsers make none for. */
  readonly rpId: string | undefined
  /** Origins of other servers that may use the passkeys of this host name. */
  readonly relatedOrigins: readonly string[]
  /** The models of authenticators that may be used; undefined where all may. */
  readonly attestation: PasskeyAttestation | undefined
}

export interface PasskeyAttestation {
  /** AAGUIDs, in lower case with hyphens. */
  readonly aaguids: readonly string[]
  /** Authorities that certify the models. */
  readonly roots: readonly X509Certificate[]
}

const list = (text: string) => text.split(',').map((item) => item.trim())

const isGroupContext = ([group, name, ...more]: readonly string[]) =>
  Boolean(group) && groupContexts.some((context) => context === name) && more.length === 0

const isHttpsOrigin = (text: string) =>
  text.startsWith('https://') && URL.parse(text)?.origin === text

const hostName = /^[a-z\d-]+(\.[a-z\d-]+)*$/
const noModel = '00000000-0000-0000-0000-000000000000'
const uuid = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/

export const passkeysVariables = {
  HOLDFAST_SIGN_IN: z
    .enum(signInPolicies, 'must be passkey, passkey-or-password or password+second-factor')
    .default('passkey-or-password'),
  HOLDFAST_USERNAMES: z.enum(['on', 'off'], 'must be on or off').default('off'),
  HOLDFAST_GROUP_SIGN_IN: z
    .string()
    .transform((text) => list(text).map((item) => item.split(/ *= */)))
    .refine(
      (pairs) => pairs.every(isGroupContext),
      `must be pairs such as admins=passkey, separated by commas, of a group and one of ${groupContexts.join(', ')}`,
    )
    .transform((pairs) =>
      pairs.map(([group = '', name]) => [group, `urn:holdfast:acr:${name}`] as const),
    )
    .default([]),
  HOLDFAST_PASSKEY_RP_ID: z
    .string()
    .refine((host) => hostName.test(host) && isIP(host) === 0, 'must be a host name in lower case')
    .optional(),
  HOLDFAST_PASSKEY_RELATED_ORIGINS: z
    .string()
    .transform(list)
    .refine(
      (origins) => origins.every(isHttpsOrigin),
      'must be origins such as https://login.example.org, separated by commas',
    )
    .default([]),
  HOLDFAST_PASSKEY_AAGUIDS: z
    .string()
    .transform(list)
    .refine(
      (ids) => ids.every((id) => uuid.test(id)),
      'must be AAGUIDs such as 08987058-cadc-4b81-b6e1-30de50dcbe96 in lower case, separated by commas',
    )
    .refine(
      (ids) => !ids.includes(noModel),
      'must be AAGUIDs of models: authenticators that name none have the one of zeros',
    )
    .default([]),
  HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE: z.string().optional(),
}

const variables = z.object(passkeysVariables)

export function passkeysConfig(
  values: z.output<typeof variables>,
  issuer: string,
  roots: readonly X509Certificate[],
): PasskeysConfig {
  const { HOLDFAST_PASSKEY_AAGUIDS: aaguids } = values
  return {
    signIn: values.HOLDFAST_SIGN_IN,
    usernames: values.HOLDFAST_USERNAMES === 'on',
    groupAcrs: values.HOLDFAST_GROUP_SIGN_IN,
    rpId: values.HOLDFAST_PASSKEY_RP_ID ?? hostNameOf(issuer),
    relatedOrigins: values.HOLDFAST_PASSKEY_RELATED_ORIGINS,
    attestation: aaguids.length > 0 ? { aaguids, roots } : undefined,
  }
}

/** Browsers take no address for an RP ID (WebAuthn Level 3 section 5.1.3). */
function hostNameOf(issuer: string): string | undefined {
  const { hostname } = new URL(issuer)
  return hostname.startsWith('[') || isIP(hostname) !== 0 ? undefined : hostname
}

/** Mistakes that only several variables together show. */
export function passkeysContradictions(
  given: Readonly<Record<string, string | undefined>>,
): string[] {
  const problems: string[] = []
  const { HOLDFAST_ISSUER: issuer = '', HOLDFAST_PASSKEY_RP_ID: rpId } = given
  const { HOLDFAST_PASSKEY_AAGUIDS: aaguids, HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE: roots } =
    given
  const hasHostName = !URL.canParse(issuer) || hostNameOf(issuer) !== undefined
  if (given.HOLDFAST_SIGN_IN === 'passkey' && !rpId && !hasHostName) {
    problems.push(
      'HOLDFAST_SIGN_IN is passkey, and HOLDFAST_ISSUER has an address: browsers make passkeys for host names only.',
    )
  }
  if (aaguids && !roots) {
    problems.push(
      'HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE is missing: without roots the models of ' +
        'HOLDFAST_PASSKEY_AAGUIDS are a claim of users.',
    )
  }
  if (roots && !aaguids) {
    problems.push(
      'HOLDFAST_PASSKEY_AAGUIDS is missing: HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE certifies models of it.',
    )
  }
  return problems
}

const pemCertificate = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** Reads the authorities that certify models of authenticators; none where no file is named. */
export function readAttestationRoots(
  file: string | undefined,
  readFile: (file: string) => string,
): { roots: readonly X509Certificate[]; problems: readonly string[] } {
  if (!file) return { roots: [], problems: [] }
  const name = 'HOLDFAST_PASSKEY_ATTESTATION_ROOTS_FILE'
  let text: string
  try {
    text = readFile(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return { roots: [], problems: [`${name} cannot be read (${code}): ${file}.`] }
  }
  try {
    const roots = (text.match(pemCertificate) ?? []).map((pem) => new X509Certificate(pem))
    if (roots.length > 0 && roots.every(({ ca }) => ca)) return { roots, problems: [] }
  } catch {
    return { roots: [], problems: [`${name} has a certificate that cannot be read: ${file}.`] }
  }
  const problem = `${name} must name a PEM file of certificates of authorities, and only those: ${file}.`
  return { roots: [], problems: [problem] }
}
