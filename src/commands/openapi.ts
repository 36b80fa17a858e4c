import type { Command } from 'commander'
import { createOpenapiDocument } from '../administration/openapi.ts'
import { operations } from '../administration/operations.ts'
import { readConfig } from '../config/env.ts'
import { command } from './command.ts'

/** `holdfast openapi`: what the admin API takes and answers. */
export function openapiCommand(): Command {
  return command(
    'openapi',
    'Print the OpenAPI document of the admin API.',
    'openapi > openapi.json',
  ).action(() => {
    console.log(JSON.stringify(createOpenapiDocument(readConfig().issuer, operations), null, 2))
  })
}
