import { IntlMessageFormat } from 'intl-messageformat'
import en from './messages/en.json' with { type: 'json' }

export type MessageKey = keyof typeof en

/** Strings are shown as they are; a message among the values is put into the same language. */
export type MessageValues = Readonly<Record<string, string | number | Date | Message>>

/** What a page says, before its language is known: data chooses the message. */
export interface Message {
  readonly key: MessageKey
  readonly values?: MessageValues
}

export interface Messages {
  /** BCP 47, for `lang` of the page. */
  readonly language: string
  /** Plain text: a template has to escape it. */
  text(message: MessageKey | Message, values?: MessageValues): string
  /**
   * HTML. Values are escaped, also those of messages among them. `<b>`, `<name>` (someone else's
   * text, whose direction must not change ours), `<span>` and `<link>` in a message become elements.
   */
  html(message: MessageKey | Message, values?: MessageValues, href?: string): string
  /** A point in time, to the minute, as text. Among the values of `html` it is a `<time>` element. */
  time(at: Date): string
  /** The element alone. */
  when(at: Date): string
}

interface MessageFile {
  readonly language: string
  /** Whose conventions dates follow. */
  readonly locale: string
  /** ICU messages by key: the plural and gender forms of `plural` and `select`. */
  readonly texts: Readonly<Record<MessageKey, string>>
}

/** Reads a message file. An invalid message is an error at once, and not when a page is shown. */
export function createMessages({ language, locale, texts }: MessageFile): Messages {
  const formats = new Map(
    Object.entries(texts).map(([key, text]) => [key, new IntlMessageFormat(text, locale)]),
  )
  const dates = new Intl.DateTimeFormat(locale, {
    dateStyle: 'medium',
    timeStyle: 'short',
    timeZone: 'UTC',
  })

  function format(message: MessageKey | Message, given: MessageValues | undefined, by: Rendering) {
    const { key, values = given ?? {} } = typeof message === 'string' ? { key: message } : message
    const shown = Object.entries(values).map(([name, value]): [string, string | number] => [
      name,
      value instanceof Date
        ? by.time(value, time(value))
        : by.value(typeof value === 'object' ? text(value) : value),
    ])
    const formatted = formats.get(key)?.format({ ...by.tags, ...Object.fromEntries(shown) })
    return String(formatted)
  }

  const text: Messages['text'] = (message, values) => format(message, values, plain)
  const time = (at: Date) => text('time.at', { time: dates.format(at) })

  return {
    language,
    text,
    html: (message, values, href = '') => format(message, values, htmlWith(href)),
    time,
    when: (at) => timeElement(at, time(at)),
  }
}

interface Rendering {
  value(value: string | number): string | number
  time(at: Date, text: string): string
  readonly tags: Readonly<Record<string, (content: string[]) => string>>
}

const plain: Rendering = { value: (value) => value, time: (_, text) => text, tags: {} }

const element = (open: string, close: string) => (content: string[]) =>
  `<${open}>${content.join('')}</${close}>`

/** A script may put it into the time zone of the browser (assets/times.js). */
const timeElement = (at: Date, text: string) =>
  `<time datetime="${at.toISOString()}">${escapeHtml(text)}</time>`

function htmlWith(href: string): Rendering {
  return {
    time: timeElement,
    // A number stays one: plural forms are chosen by it.
    value: (value) => (typeof value === 'number' ? value : escapeHtml(value)),
    tags: {
      b: element('strong', 'strong'),
      name: element('bdi', 'bdi'),
      span: element('span', 'span'),
      link: element(`a href="${escapeHtml(href)}"`, 'a'),
    },
  }
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}

/** The one language for now. */
export const english = createMessages({ language: 'en', locale: 'en-GB', texts: en })
