/** What an application asks for, in the words of a page. */
import {
  type AuthorizationDetail,
  detailLines,
  detailProblem,
} from '../authorization-details/authorization-details.ts'
import type { DetailsTypeTable } from '../storage/details-type-table.ts'
import type { MessageKey } from './messages.ts'
import { PageError } from './page-error.ts'
import { claimLabels, type FindResourceLabels, scopeLabels } from './scope-labels.ts'
import type { ConsentSection } from './views.ts'

/** Finds a type of authorization details. */
export type FindDetailsType = DetailsTypeTable['find']

/** What an application asks for, or has. */
export interface Consent {
  scopes: readonly string[]
  claims: readonly string[]
  resources: readonly { indicator: string; scopes: readonly string[] }[]
  /** Authorization details (RFC 9396), all of the request: a payment is never half allowed. */
  details: readonly AuthorizationDetail[]
}

/** What is asked for, with each scope, claim and member on a line. */
export async function describeConsent(
  { scopes, claims, resources, details }: Consent,
  findLabels: FindResourceLabels,
  findType: FindDetailsType,
): Promise<ConsentSection[]> {
  const all = [
    ...scopes.map((scope) => consentLine(scope, scopeLabels.get(scope), 'scope.other')),
    ...claims.map((claim) => consentLine(claim, claimLabels.get(claim), 'claim.other')),
  ]
  // The scope `email` and the claim `email` read the same: one line is enough.
  const lines = [...new Map(all.map((line) => [line.code ?? line.label.key, line])).values()]
  const described = resources.map(async ({ indicator, scopes }) => {
    const { scopes: labels } = (await findLabels(indicator)) ?? {}
    return {
      resource: await resourceTitle(indicator, findLabels),
      lines: scopes.map((scope) => ({
        label: labels?.get(scope) ?? { key: 'scope.other' as const },
        code: scope,
      })),
    }
  })
  const detailed = details.map((detail) => describeDetail(detail, findLabels, findType))
  return [...(lines.length ? [{ lines }] : []), ...(await Promise.all([...detailed, ...described]))]
}

async function resourceTitle(indicator: string, findLabels: FindResourceLabels): Promise<string> {
  const { name } = (await findLabels(indicator)) ?? {}
  return name ? `${name} (${indicator})` : indicator
}

/**
 * A detail with each of its members on a line, by the labels of its API.
 *
 * @throws PageError where the API has changed the type since the request: then it starts again.
 */
async function describeDetail(
  detail: AuthorizationDetail,
  findLabels: FindResourceLabels,
  findType: FindDetailsType,
): Promise<ConsentSection> {
  const found = await findType(detail.type)
  if (!found || detailProblem(detail, found.definition))
    throw new PageError('expired_interaction', 'Expected the type of the authorization details')
  return {
    resource: await resourceTitle(found.resource, findLabels),
    lead: found.definition.label,
    lines: detailLines(detail, found.definition).map(({ labels, value }) => ({
      label: labels.join(' – '),
      value: typeof value === 'string' ? value : { key: value ? 'value.yes' : 'value.no' },
    })),
  }
}

function consentLine(name: string, label: MessageKey | undefined, other: MessageKey) {
  return label ? { label: { key: label } } : { label: { key: other }, code: name }
}
