import { parseJson } from '@holdfast/verify/authorization-server'
import { z } from 'zod'

/** What a browser answers, as `PublicKeyCredential.toJSON()` writes it (WebAuthn Level 3 section 5.1). */

const base64url = z.string().regex(/^[\w-]+$/)

/** A credential id has at most 1023 bytes. */
const credentialId = base64url.max(1364)

const common = {
  id: credentialId,
  rawId: credentialId,
  type: z.literal('public-key'),
  clientExtensionResults: z.looseObject({}).default({}),
}

const assertion = z.object({
  ...common,
  response: z.object({
    clientDataJSON: base64url,
    authenticatorData: base64url,
    signature: base64url,
    userHandle: base64url,
  }),
})

const attestation = z.object({
  ...common,
  response: z.object({
    clientDataJSON: base64url,
    attestationObject: base64url,
    transports: z
      .array(z.string().regex(/^[a-z-]{1,20}$/))
      .max(10)
      .default([]),
  }),
})

export type Assertion = z.output<typeof assertion>
export type Attestation = z.output<typeof attestation>

export const readAssertion = (text: string): Assertion | undefined => read(assertion, text)
export const readAttestation = (text: string): Attestation | undefined => read(attestation, text)

/** Larger than any form that it comes in. */
const limitBytes = 16 * 1024

function read<T>(schema: z.ZodType<T>, text: string): T | undefined {
  return schema.safeParse(parseJson(Buffer.from(text), limitBytes)).data
}

const clientData = z.object({
  type: z.string(),
  challenge: z.string(),
  origin: z.string(),
  crossOrigin: z.boolean().optional(),
  topOrigin: z.unknown().optional(),
})

/** Undefined for what is no client data, and for that of a frame in a page of another site. */
export function readClientData(encoded: string): { challenge: string } | undefined {
  const read = clientData.safeParse(parseJson(Buffer.from(encoded, 'base64url'), limitBytes)).data
  return read?.crossOrigin || read?.topOrigin !== undefined ? undefined : read
}
