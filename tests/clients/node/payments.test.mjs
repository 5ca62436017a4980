// node-postgres, unmodified. Strings go as text parameters, Buffers as binary ones; `binary` asks for binary results.
// It decodes binary numbers wrongly whatever the server (fields are made strings first), so numbers are cast to text.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import pg from 'pg';

const VISA = '4111111111111111', VISA_MASK = '411111******1111';
const MASTER = '5555555555554444', MASTER_MASK = '555555******4444';
const AMEX = '378282246310005', AMEX_MASK = '378282*****0005';

const till = new pg.Client({ user: 'till' });
const desk = new pg.Client({ user: 'desk' });

before(async () => { await till.connect(); await desk.connect(); });
after(async () => { await till.end(); await desk.end(); });
beforeEach(async () => { await till.query('TRUNCATE payments_node'); });

for (const binary of [false, true]) {
  describe(binary ? 'binary' : 'text', () => {
    const bind = (pan) => (binary ? Buffer.from(pan) : pan);
    const run = async (client, text, values = [], name = undefined) =>
      (await client.query({ text, values, name, binary, rowMode: 'array' })).rows;
    const insert = async (...pans) => {
      for (const [i, pan] of pans.entries()) {
        await run(till, 'INSERT INTO payments_node VALUES ($1::int, $2, 10)', [i + 1, bind(pan)]);
      }
    };

    test('insert and select give the mask', async () => {
      await insert(VISA, '5555-5555-5555-4444');
      assert.deepEqual(await run(till, 'SELECT id::text, card, card::text FROM payments_node ORDER BY id'),
        [['1', VISA_MASK, VISA_MASK], ['2', MASTER_MASK, MASTER_MASK]]);
    });

    test('look-up by full PAN', async () => {
      await insert(VISA, MASTER);
      for (const parameter of ['$1', '$1::text', '$1::varchar', '$1::pci.pan']) {
        const query = `SELECT id::text FROM payments_node WHERE card = ${parameter}`;
        assert.deepEqual(await run(till, query, [bind(MASTER)]), [['2']], parameter);
        assert.deepEqual(await run(till, query, [bind(AMEX)]), [], parameter);
      }
    });

    test('IN and = ANY', async () => {
      await insert(VISA, MASTER, AMEX);
      assert.deepEqual(await run(till, 'SELECT id::text FROM payments_node WHERE card IN ($1, $2) ORDER BY id',
        [bind(VISA), bind(AMEX)]), [['1'], ['3']]);
      // node-postgres sends arrays in text form only.
      for (const parameter of ['$1', '$1::text[]']) {
        assert.deepEqual(await run(till, `SELECT id::text FROM payments_node WHERE card = ANY(${parameter}) ORDER BY id`,
          [[MASTER, AMEX]]), [['2'], ['3']], parameter);
      }
    });

    test('upsert', async () => {
      const upsert = `INSERT INTO payments_node (card, amount) VALUES ($1, $2::text::int) ON CONFLICT (card)
        DO UPDATE SET amount = payments_node.amount + excluded.amount RETURNING card, amount::text`;
      assert.deepEqual(await run(till, upsert, [bind(VISA), '5']), [[VISA_MASK, '5']]);
      assert.deepEqual(await run(till, upsert, [bind(VISA), '6']), [[VISA_MASK, '11']]);
    });

    test('update of another column keeps the card', async () => {
      await insert(VISA);
      await run(till, 'UPDATE payments_node SET amount = $1 WHERE id = 1', [99]);
      assert.deepEqual(await run(desk, 'SELECT pci.reveal(card), amount::text FROM payments_node'), [[VISA, '99']]);
    });

    test('update of the card', async () => {
      await insert(VISA);
      await run(till, 'UPDATE payments_node SET card = $1 WHERE card = $2', [bind(AMEX), bind(VISA)]);
      assert.deepEqual(await run(desk, 'SELECT card, pci.reveal(card) FROM payments_node'), [[AMEX_MASK, AMEX]]);
    });

    test('refused reveal', async () => {
      await insert(VISA);
      await assert.rejects(run(till, 'SELECT pci.reveal(card) FROM payments_node'), (error) => {
        assert.ok(error instanceof pg.DatabaseError);
        assert.equal(error.code, '42501');
        assert.match(error.message, /permission denied to reveal card numbers/);
        assert.match(error.hint, /pci\.grant_access/);
        assert.ok(!JSON.stringify({ ...error, message: error.message }).includes(VISA));
        return true;
      });
      assert.deepEqual(await run(till, 'SELECT card FROM payments_node'), [[VISA_MASK]]);
    });

    test('granted reveal', async () => {
      await insert(VISA, MASTER);
      assert.deepEqual(await run(desk, 'SELECT card, pci.reveal(card) FROM payments_node ORDER BY id'),
        [[VISA_MASK, VISA], [MASTER_MASK, MASTER]]);
    });

    test('bad input does not come back', async () => {
      for (const bad of ['4111111111111112', VISA_MASK, '41111111111']) {
        await assert.rejects(insert(bad), (error) => {
          assert.equal(error.code, '22P02');
          assert.ok(!JSON.stringify({ ...error, message: error.message }).includes(bad));
          return true;
        });
      }
      assert.deepEqual(await run(till, 'SELECT count(*)::text FROM payments_node'), [['0']]);
    });

    test('a prepared statement goes generic', async () => {
      await insert(VISA, MASTER);
      const name = `look-up ${binary}`;
      for (let i = 0; i < 10; i++) {
        const look = (pan) => run(till, 'SELECT id::text FROM payments_node WHERE card = $1', [bind(pan)], name);
        assert.deepEqual(await look(MASTER), [['2']]);
        assert.deepEqual(await look(VISA), [['1']]);
        assert.deepEqual(await look(AMEX), []);
      }
      const { rows } = await till.query('SELECT generic_plans::int AS n FROM pg_prepared_statements WHERE name = $1', [name]);
      assert.ok(rows[0].n > 0, `generic plans: ${rows[0].n}`);
      for (let i = 0; i < 10; i++) {
        assert.deepEqual(await run(desk, 'SELECT pci.reveal(card) FROM payments_node WHERE id = $1', [1], `reveal ${binary}`), [[VISA]]);
      }
    });
  });
}
