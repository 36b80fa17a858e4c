/** Where the gate itself answers the browsers of an application. */
import type { Entered } from '../edge.ts'
import { Refusal } from '../refusal.ts'
import { type Answer, dbscAnswer, page } from './answers.ts'
import { readCookies } from './cookies.ts'
import { keptBytes, type ReadText } from './kept-forms.ts'
import { provePageKey, registerPageKey, sendPageKeyScript } from './page-key-pages.ts'
import { gatePath, onlyValue, safeReturn } from './requests.ts'
import { paths, type Side } from './side.ts'
import { beginSignIn, finishSignIn } from './sign-in-pages.ts'
import { backChannelLogout, signedOutPage, signOut, signOutPage } from './sign-out.ts'

type Endpoint = (side: Side, entered: Entered, readText: ReadText) => Answer | Promise<Answer>

const endpoints: Readonly<Record<string, Endpoint>> = {
  [`GET ${paths.signIn}`]: beginSignIn,
  [`GET ${paths.callback}`]: finishSignIn,
  [`GET ${paths.continue}`]: ({ forms }, { target, fields }) =>
    forms.send(new URLSearchParams(target.query).get('form'), readCookies(fields)),
  [`GET ${paths.signOut}`]: signOutPage,
  [`POST ${paths.signOut}`]: signOut,
  [`GET ${paths.signedOut}`]: signedOutPage,
  [`POST ${paths.logout}`]: backChannelLogout,
  [`GET ${paths.pageKeyScript}`]: sendPageKeyScript,
  [`POST ${paths.pageKeyRegistration}`]: registerPageKey,
  [`POST ${paths.pageKeyProof}`]: provePageKey,
}

/** Answers requests below `/.gate` and those of DBSC; `undefined` for requests of the application. */
export async function serveBrowser(
  side: Side,
  entered: Entered,
  readText: ReadText,
): Promise<Answer | undefined> {
  const { method, target, fields } = entered
  const { path } = target
  const bound = await side.dbsc.handle({
    ...{ method, path },
    header: (name) => onlyValue(fields, name.toLowerCase()),
    session: () => side.check.idOf(fields),
  })
  if (bound !== undefined) return dbscAnswer(bound)
  if (path !== gatePath && !path.startsWith(`${gatePath}/`)) return undefined
  const endpoint = endpoints[`${method} ${path}`]
  if (endpoint !== undefined) return endpoint(side, entered, readText)
  return page(404, { title: 'Not found', html: '<p>The gate has no such page.</p>' })
}

/** Keeps a form over the sign-in. @throws {@link Refusal} `body_too_large`, `form_too_large` */
export async function keepForm(side: Side, entered: Entered, readText: ReadText): Promise<Answer> {
  const target = entered.target.path + entered.target.query
  const isKept = safeReturn(target, side.config.paths) === target
  if (!isKept) throw new Refusal('form_too_large')
  const body = await readText(keptBytes).catch((cause) => {
    const isLarge = cause instanceof Refusal && cause.code === 'body_too_large'
    throw isLarge ? new Refusal('form_too_large', { cause }) : cause
  })
  return side.forms.keep({ target, body }, readCookies(entered.fields))
}
