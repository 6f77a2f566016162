package nb.worker

import java.io.{DataInputStream, DataOutputStream, FileDescriptor, FileInputStream, FileOutputStream}
import java.io.{BufferedInputStream, BufferedOutputStream, EOFException}
import java.nio.charset.StandardCharsets.UTF_8

/** The private line to nb: frames of four bytes of length and JSON, both ways over the socket that is our standard input.
  *
  * Standard output and error are nobody's line: what native code and child processes write there is theirs.
  */
final class Channel {
  private val in = new DataInputStream(new BufferedInputStream(new FileInputStream(FileDescriptor.in)))
  private val out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.in)))

  /** The next frame; nothing when nb is gone. */
  def receive(): Option[ujson.Value] =
    try {
      val bytes = new Array[Byte](in.readInt())
      in.readFully(bytes)
      Some(ujson.read(bytes))
    } catch { case _: EOFException => None }

  /** Sends one frame, whole, whichever thread asks. */
  def send(frame: ujson.Obj): Unit = {
    val bytes = ujson.write(frame).getBytes(UTF_8)
    synchronized {
      out.writeInt(bytes.length)
      out.write(bytes)
      out.flush()
    }
  }
}
