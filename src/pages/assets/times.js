// Shows times in the time zone and by the conventions of this browser, in the language of the page.
// Without this they are those of UTC, and say so.
const { lang } = document.documentElement
const locale = navigator.languages.find((each) => each.split('-')[0] === lang) ?? lang
const format = new Intl.DateTimeFormat(locale, {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  timeZoneName: 'short',
})
for (const time of document.querySelectorAll('time[datetime]')) {
  time.textContent = format.format(new Date(time.dateTime))
}
