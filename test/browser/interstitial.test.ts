import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import test from 'ava'
import Koa from 'koa'
import { loadAssets } from '../../src/pages/assets.ts'
import { createViews } from '../../src/pages/views.ts'
import { chromiumPath, launchChromium } from '../support/chromium.ts'
import { serve } from '../support/serve.ts'

const artefacts = `${import.meta.dirname}/../artefacts`
const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf-8',
)
const browserTest = chromiumPath === undefined && !process.env.CI ? test.skip : test

browserTest('shows an accessible interstitial', async (t) => {
  t.truthy(chromiumPath, 'Chromium is missing: apt-get install chromium')
  const assets = loadAssets()
  const app = new Koa()
  app.use(assets.middleware)
  app.use((ctx) => {
    // It goes on at once; here it stays, to be looked at.
    const html = createViews({ assets: assets.urls }).interstitial('/next')
    ctx.body = html.replace(/<meta http-equiv="refresh"[^>]*>/, '')
  })
  const browser = await launchChromium()
  t.teardown(() => browser.close())
  const page = await browser.newPage({ reducedMotion: 'reduce' })
  await page.goto(await serve(t, app))
  mkdirSync(artefacts, { recursive: true })
  await page.screenshot({ path: `${artefacts}/interstitial-light.png`, fullPage: true })
  await page.evaluate(axeSource)
  const { passes, violations } = await page.evaluate<{
    passes: unknown[]
    violations: { id: string }[]
  }>('axe.run(document)')
  t.true(passes.length > 10)
  t.deepEqual(
    violations.map(({ id }) => id),
    [],
  )
})
