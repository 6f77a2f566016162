package nb.worker

import java.io.{IOException, InputStream, OutputStream, PrintStream}
import java.nio.{ByteBuffer, CharBuffer}
import java.nio.charset.CodingErrorAction.REPLACE
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.LinkedBlockingQueue

/** What is printed, by whatever thread: text in pieces, each sent soon after it was written. */
final class Printed(channel: Channel, name: String) extends OutputStream {
  private val decoder = UTF_8.newDecoder().onMalformedInput(REPLACE).onUnmappableCharacter(REPLACE)
  private val bytes = ByteBuffer.allocate(Printed.BytesMax)
  private val chars = CharBuffer.allocate(Printed.BytesMax)

  override def write(byte: Int): Unit = write(Array(byte.toByte), 0, 1)

  override def write(from: Array[Byte], offset: Int, length: Int): Unit = synchronized {
    var done = 0
    while (done < length) {
      val part = math.min(length - done, bytes.remaining)
      bytes.put(from, offset + done, part)
      done += part
      if (!bytes.hasRemaining) say()
    }
  }

  /** Sends what there is; the beginning of a character waits for its rest. */
  def say(): Unit = synchronized {
    bytes.flip()
    decoder.decode(bytes, chars, false)
    bytes.compact()
    chars.flip()
    if (chars.hasRemaining) channel.send(ujson.Obj("op" -> "stream", "name" -> name, "text" -> chars.toString))
    chars.clear()
  }
}

object Printed {

  /** More than that is not kept back. */
  val BytesMax: Int = 32 * 1024

  /** How long what is printed may be kept back for more to come, in milliseconds. */
  val LatencyMs: Long = 20

  /** Puts these in the place of the JVM's own, before anybody has looked at those. */
  def instead(channel: Channel): Seq[Printed] = {
    val (out, err) = (new Printed(channel, "stdout"), new Printed(channel, "stderr"))
    System.setOut(new PrintStream(out, false, "UTF-8"))
    System.setErr(new PrintStream(err, false, "UTF-8"))
    val all = Seq(out, err)
    Threads.daemon("nb-printed") {
      while (true) {
        Thread.sleep(LatencyMs)
        all.foreach(_.say())
      }
    }
    all
  }
}

/** Standard input: each time that more is needed, whoever sent the cell is asked for a line. */
final class Asked(channel: Channel, flush: () => Unit) extends InputStream {
  private val answers = new LinkedBlockingQueue[Either[String, String]]
  private var line = Array.emptyByteArray
  private var next = 0

  /** An answer, or the reason why there is none. */
  def answer(text: Either[String, String]): Unit = answers.put(text)

  override def read(): Int = {
    val one = new Array[Byte](1)
    if (read(one, 0, 1) < 0) -1 else one(0) & 0xff
  }

  override def read(into: Array[Byte], offset: Int, length: Int): Int = synchronized {
    if (length == 0) return 0
    if (next == line.length) {
      flush()
      // Of a question that was interrupted.
      answers.clear()
      channel.send(ujson.Obj("op" -> "input"))
      answers.take() match {
        case Right(text) => line = (text + "\n").getBytes(UTF_8)
        case Left(why)   => throw new IOException(why)
      }
      next = 0
    }
    val part = math.min(length, line.length - next)
    System.arraycopy(line, next, into, offset, part)
    next += part
    part
  }

  override def available(): Int = synchronized(line.length - next)
}

object Threads {

  /** A thread that keeps no JVM from ending. */
  def daemon(name: String, stackBytes: Long = 0)(body: => Unit): Thread = {
    val thread = new Thread(null, () => body, name, stackBytes)
    thread.setDaemon(true)
    thread.start()
    thread
  }
}
